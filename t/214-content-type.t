#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# A metered body is JSON by its endpoint, and its headers must agree; a body
# that two readers could read in two ways is refused (T33).


use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(basename);
use File::Path qw(make_path);
use FindBin;
use IO::Socket::INET;
use Test::More;

my $module;
my $prices = "$FindBin::Bin/fixtures/prices.json";

BEGIN {
    my $build = $ENV{LLMB_BUILD} || abs_path("$FindBin::Bin/..") . '/build';

    $module = "$build/ngx_http_llm_budget_module.so";

    plan(skip_all => "no $module: run scripts/build") if !-f $module;

    $ENV{TEST_NGINX_BINARY} ||= '/usr/sbin/nginx';
    $ENV{TEST_NGINX_SERVROOT} ||= "$build/servroot/" . basename($0, '.t');
    make_path("$build/servroot");

    $ENV{TEST_NGINX_SERVER_PORT}
        ||= IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1')
                            ->sockport();
}

use Test::Nginx::Socket 'no_plan';


# "reached" in the answer: the request passed, with the Content-Type that the
# provider saw

my $http = <<"END";
llm_budget_zone llm 1m;
llm_budget_prices $prices;
END

my $config = <<'END';
location /v1/ {
    llm_budget on;
    llm_budget_limit all key=all usd=1000 per=lifetime;
    proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/provider/;
}

location /provider/ {
    default_type application/json;
    return 200 '{"seen":"$http_content_type|$http_content_encoding"}';
}
END

add_block_preprocessor(sub {
    my ($block) = @_;

    $block->set_value(main_config => "load_module $module;\n");
    $block->set_value(http_config => $http);
    $block->set_value(config => $config);

    return if defined $block->raw_request;

    my $body = $block->body // '{"model":"m-std","max_tokens":9,'
                               . '"messages":[]}';

    $body =~ s/\n\z// unless ref $body;

    my $type = $block->type // 'Content-Type: application/json';

    chomp($type);
    $type =~ s/\n/\r\n/g;
    $type .= "\r\n" if length $type;

    $block->set_value(raw_request =>
        "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
        . "Connection: close\r\nAuthorization: Bearer k1\r\n$type"
        . 'Content-Length: ' . length($body) . "\r\n\r\n$body");
    $block->set_value(no_error_log => "[alert]\n[emerg]");
});

no_long_string();
repeat_each(1);
run_tests();


__DATA__

=== TEST 1: application/json is read
--- type: Content-Type: application/json
--- error_code: 200
--- response_body: {"seen":"application/json|"}


=== TEST 2: the type's case does not matter, and its own spelling travels
--- type: content-type: Application/JSON
--- error_code: 200
--- response_body: {"seen":"application/json|"}


=== TEST 3: parameters are allowed, and do not travel (T33)
--- type: Content-Type: application/json; xform=1
--- error_code: 200
--- response_body: {"seen":"application/json|"}


=== TEST 4: the charset may be UTF-8
--- type: Content-Type: application/json;charset="UTF-8"
--- error_code: 200
--- response_body: {"seen":"application/json|"}


=== TEST 5: the charset may be nothing else (T33)
--- type: Content-Type: application/json; charset=utf-16
--- error_code: 415
--- response_body_like: "code":"content_type_invalid"


=== TEST 6: nor behind another parameter (T33)
--- type: Content-Type: application/json; a=b ; CHARSET=iso-8859-1
--- error_code: 415
--- response_body_like: "code":"content_type_invalid"


=== TEST 7: a type that merely contains the words is refused (T33)
--- type: Content-Type: application/form-json
--- error_code: 415
--- response_body_like: "code":"content_type_invalid"


=== TEST 8: a type that begins with the words is refused (T33)
--- type: Content-Type: application/jsonlines
--- error_code: 415
--- response_body_like: "code":"content_type_invalid"


=== TEST 9: two types in one header are refused (T33)
--- type: Content-Type: application/json, text/plain
--- error_code: 415
--- response_body_like: "code":"content_type_invalid"


=== TEST 10: plain text is refused (T33)
--- type: Content-Type: text/plain
--- error_code: 415
--- response_body_like: ^\{"error":\{"type":"invalid_request_error"


=== TEST 11: a form is refused (T33)
--- type: Content-Type: multipart/form-data; boundary=application/json
--- error_code: 415
--- response_body_like: "code":"content_type_invalid"


=== TEST 12: no type is refused (T33)
--- type eval: ''
--- error_code: 415
--- response_body_like: "code":"content_type_invalid"


=== TEST 13: an empty type is refused (T33)
--- type: Content-Type:
--- error_code: 415
--- response_body_like: "code":"content_type_invalid"


=== TEST 14: two Content-Type headers are refused, though equal (T33)
--- type
Content-Type: application/json
Content-Type: application/json
--- error_code: 400
--- response_body_like: "(code":"content_type_invalid|message":"The request cannot)


=== TEST 15: a compressed body is refused (T33)
--- type
Content-Type: application/json
Content-Encoding: gzip
--- error_code: 415
--- response_body_like: "code":"content_encoding_not_allowed"


=== TEST 16: a second Content-Encoding is seen as well (T33)
--- type
Content-Type: application/json
Content-Encoding: identity
Content-Encoding: deflate
--- error_code: 415
--- response_body_like: "code":"content_encoding_not_allowed"


=== TEST 17: identity is no encoding
--- type
Content-Type: application/json
Content-Encoding: identity
--- error_code: 200
--- response_body_like: ^\{"seen":"application/json\|


=== TEST 18: an Anthropic client is told in its shape
--- raw_request eval
"POST /v1/messages HTTP/1.1\r\nHost: a\r\nConnection: close\r\nx-api-key: k1\r\nContent-Length: 2\r\n\r\n{}"
--- error_code: 415
--- response_body_like: ^\{"type":"error","error":\{"type":"invalid_request_error"
--- no_error_log
[alert]


=== TEST 19: a member twice is refused (T33)
--- body: {"model":"m-mini","model":"m-std","messages":[]}
--- error_code: 400
--- response_body_like: "param":"model","code":"request_invalid"


=== TEST 20: an escaped key is that key (T33)
--- body: {"mod\u0065l":"none","messages":[]}
--- error_code: 400
--- response_body_like: "code":"model_unpriced"


=== TEST 21: an escaped key twice is refused (T33)
--- body: {"model":"m-mini","mod\u0065l":"m-std","messages":[]}
--- error_code: 400
--- response_body_like: "param":"model","code":"request_invalid"


=== TEST 22: a key in another case is refused (T33)
--- body: {"model":"m-mini","Model":"m-std","messages":[]}
--- error_code: 400
--- response_body_like: "code":"request_invalid"


=== TEST 23: a key with a NUL is refused (T33)
--- body: {"model\u0000":"m-std","model":"m-mini","messages":[]}
--- error_code: 400
--- response_body_like: "code":"request_invalid"


=== TEST 24: a member of a member is another thing (T33)
--- body: {"metadata":{"model":"none"},"model":"m-mini","messages":[]}
--- error_code: 200
--- response_body_like: "seen"


=== TEST 25: "stream":"true" is refused (T33)
--- body: {"model":"m-mini","stream":"true","messages":[]}
--- error_code: 400
--- response_body_like: "param":"stream","code":"request_invalid"


=== TEST 26: "stream":1 is refused (T33)
--- body: {"model":"m-mini","stream":1,"messages":[]}
--- error_code: 400
--- response_body_like: "param":"stream","code":"request_invalid"


=== TEST 27: a byte order mark is refused (T33)
--- body eval: "\xef\xbb\xbf" . '{"model":"m-mini","messages":[]}'
--- error_code: 400
--- response_body_like: "code":"request_invalid"


=== TEST 28: a cut UTF-8 character is refused (T33)
--- body eval: qq({"model":"m-mini","messages":[],"user":"\xf0\x9f\x98"})
--- error_code: 400
--- response_body_like: "code":"request_invalid"


=== TEST 29: bytes after the object are refused (T33)
--- body: {"model":"m-mini","messages":[]}{"model":"m-std"}
--- error_code: 400
--- response_body_like: "code":"request_invalid"


=== TEST 30: an array is refused (T33)
--- body: [{"model":"m-mini","messages":[]}]
--- error_code: 400
--- response_body_like: "code":"request_invalid"


=== TEST 31: an empty body is refused (T33)
--- body eval: ''
--- error_code: 400
--- response_body_like: "code":"request_invalid"


=== TEST 32: an overflowing number is refused, and named (T21)
--- body: {"model":"m-mini","n":18446744073686646784,"messages":[]}
--- error_code: 400
--- response_body_like: "param":"n","code":"request_invalid"


=== TEST 33: a negative ceiling is refused, and named (T21)
--- body: {"model":"m-mini","max_tokens":-1,"messages":[]}
--- error_code: 400
--- response_body_like: "param":"max_tokens","code":"request_invalid"


=== TEST 34: a charset as short as UTF-8 is no UTF-8 (T33)
--- type: Content-Type: application/json; charset=ascii
--- error_code: 415
--- response_body_like: "code":"content_type_invalid"
