#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# Single refusals, without a provider: each is nginx's own answer, complete on
# its connection (T42).


use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(basename);
use File::Path qw(make_path);
use FindBin;
use IO::Socket::INET;
use Test::More;

my $module;

# before Test::Nginx reads its environment: a server root and a port of its
# own, so that prove -j can run files side by side

BEGIN {
    my $build = $ENV{LLMB_BUILD} || abs_path("$FindBin::Bin/..") . '/build';

    $module = "$build/ngx_http_llm_budget_module.so";

    plan(skip_all => "no $module: run scripts/build") if !-f $module;

    $ENV{TEST_NGINX_BINARY} ||= '/usr/sbin/nginx';
    $ENV{TEST_NGINX_SERVROOT} ||= "$build/servroot/" . basename($0, '.t');
    $ENV{TEST_NGINX_PRICES} = "$FindBin::Bin/fixtures/prices.json";
    make_path("$build/servroot");

    $ENV{TEST_NGINX_SERVER_PORT}
        ||= IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1')
                            ->sockport();
}

use Test::Nginx::Socket 'no_plan';


# what all blocks share: nothing listens on the discard port

add_block_preprocessor(sub {
    my ($block) = @_;

    $block->set_value(main_config => "load_module $module;\n"
                                     . ($block->main_config // ''));
    $block->set_value(http_config => <<'END' . ($block->http_config // ''));
    llm_budget_zone llm 1m;
    llm_budget_prices $TEST_NGINX_PRICES;
END

    $block->set_value(more_headers => <<'END' . ($block->more_headers // ''));
Authorization: Bearer k1
Content-Type: application/json
END

    $block->set_value(no_error_log => "[alert]\n[emerg]")
        unless defined $block->error_log;
});

no_long_string();
repeat_each(2);

run_tests();


__DATA__

=== TEST 1: a limit of 0 refuses in OpenAI's words (T30)
--- config
location /v1/ {
    llm_budget on;
    llm_budget_limit none usd=0;
    llm_budget_show_amounts off;
    proxy_pass http://127.0.0.1:9;
}
--- request
POST /v1/chat/completions
{"model":"m-std","messages":[{"role":"user","content":"x"}]}
--- response_headers
Content-Type: application/json
x-should-retry: false
x-llm-budget-code: budget_exceeded
!Retry-After
--- response_body chomp
{"error":{"type":"budget_exceeded","message":"The budget \"none\" is used up until further notice.","param":null,"code":"budget_exceeded","source":"gateway","metadata":{"scope":"none","unit":"usd","resets_at":null}}}
--- error_code: 429


=== TEST 2: and in the status that was set
--- config
location /v1/ {
    llm_budget on;
    llm_budget_limit none usd=0;
    llm_budget_status 402;
    proxy_pass http://127.0.0.1:9;
}
--- request
POST /v1/messages
{"model":"c-std","max_tokens":5,"messages":[{"role":"user","content":"x"}]}
--- response_headers
x-should-retry: false
--- response_body_like chomp
^\{"type":"error","error":\{"type":"billing_error",.*"code":"budget_exceeded"
--- error_code: 402


=== TEST 3: a refusal keeps the connection open for the next call (T42)
--- config
location /v1/ {
    llm_budget on;
    llm_budget_limit none requests=0;
    proxy_pass http://127.0.0.1:9;
}
--- pipelined_requests eval
[("POST /v1/embeddings\n" . '{"model":"m-embed","input":"x"}') x 2]
--- response_body_like eval
[qr/"code":"rate_limited"/, qr/"code":"rate_limited"/]
--- error_code eval
[429, 429]


=== TEST 4: the variables of a refusal can be used in a header
--- config
location /v1/ {
    llm_budget on;
    llm_budget_limit wide usd=5;
    llm_budget_limit narrow tokens=1 per=year;
    llm_budget_clamp off;
    add_header X-Said "$llm_budget_verdict $llm_budget_code $llm_budget_limit" always;
    proxy_pass http://127.0.0.1:9;
}
--- request
POST /v1/chat/completions
{"model":"m-std","messages":[{"role":"user","content":"x"}]}
--- response_headers
X-Said: deny request_exceeds_budget narrow
x-should-retry: false
!Retry-After
--- error_code: 429


=== TEST 5: an amount that is no number is a fault of ours, and logged (T30)
--- http_config
map $http_x_none $amount {
    default abc;
}
--- config
location /v1/ {
    llm_budget on;
    llm_budget_limit odd tokens=$amount;
    proxy_pass http://127.0.0.1:9;
}
--- request
POST /v1/chat/completions
{"model":"m-std","messages":[{"role":"user","content":"x"}]}
--- response_headers
x-llm-budget-code: limit_invalid
--- error_code: 503
--- error_log
llm_budget: limit "odd" has an invalid tokens amount "abc"


=== TEST 6: a limit is inherited from the server, unless the location has one
--- config
llm_budget_limit none usd=0;
location /v1/ {
    llm_budget on;
    proxy_pass http://127.0.0.1:9;
}
--- request
POST /v1/completions
{"model":"m-std","prompt":"x"}
--- response_body_like: "scope":"none"
--- error_code: 429


=== TEST 7: a limit of the location replaces those of the server
--- config
llm_budget_limit none usd=0;
location /v1/ {
    llm_budget on;
    llm_budget_limit own usd=1;
    proxy_pass http://127.0.0.1:9;
}
--- request
POST /v1/completions
{"model":"m-std","prompt":"x"}
--- error_log
connect() failed
--- error_code: 502


=== TEST 8: code= names the cause for the client
--- config
location /v1/ {
    llm_budget on;
    llm_budget_limit loop key=$llm_budget_body_sha256 requests=0 per=minute code=loop_detected;
    proxy_pass http://127.0.0.1:9;
}
--- request
POST /v1/responses
{"model":"m-std","input":"x"}
--- response_headers
x-llm-budget-code: loop_detected
!x-should-retry
--- response_headers_like
Retry-After: [1-6]?[0-9]
--- response_body_like: "code":"loop_detected"
--- error_code: 429


=== TEST 9: a model without a price is refused before any limit (T06)
--- config
location /v1/ {
    llm_budget on;
    llm_budget_limit none usd=0;
    proxy_pass http://127.0.0.1:9;
}
--- request
POST /v1/chat/completions
{"model":"brand-new","messages":[{"role":"user","content":"x"}]}
--- response_body_like: "param":"model","code":"model_unpriced"
--- error_code: 400
