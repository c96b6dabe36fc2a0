#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# Who pays: the carriers of a key, and what of them travels (T50).


use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP ();
use Test::More;

use LLMBudget;


need_module();

$ENV{LLMB_TEST_API_KEY} = 'provider-env-7';

my $standin = start_standin();

my $nginx = start_nginx(
    files => { secret => "provider-file-6\n" },
    main => 'env LLMB_TEST_API_KEY;',
    conf => llm_conf(
        key => '',
        http => <<'END',
    large_client_header_buffers 4 128k;

    log_format leaky escape=none '$request $request_uri $args $arg_key '
        '$query_string $uri $is_args $http_authorization $http_x_api_key '
        '$http_api_key $http_x_goog_api_key $http_x_secret $llm_budget_pass';

    llm_budget_provider plain {
        pass     http://standin/v1;
        api_key  provider-plain-5;
    }

    llm_budget_provider file {
        pass     http://standin;
        api_key  file:%%DIR%%/secret;
    }

    llm_budget_provider env {
        pass            http://standin;
        api_key         env:LLMB_TEST_API_KEY;
        api_key_header  X-Secret;
    }

    llm_budget_provider dead {
        pass     http://127.0.0.1:%%PORT9%%;
        api_key  provider-dead-8;
    }

    llm_budget_provider none {
        pass  http://standin;
    }
END
        locations => join('', map { location($_) } qw(plain file env none))
            . <<'END'));
        location /raw/ {
            llm_budget on;
            llm_budget_key $http_authorization;
            llm_budget_limit all key=all usd=1000 per=lifetime;
            llm_budget_limit key requests=100 per=lifetime;
            proxy_pass http://standin;
        }

        location /two/ {
            llm_budget on;
            llm_budget_key $http_x_team $http_x_env;
            llm_budget_limit all key=all usd=1000 per=lifetime;
            proxy_pass http://standin;
        }

        location /shown/ {
            llm_budget on;
            llm_budget_limit all key=all usd=1000 per=lifetime;
            llm_budget_pass plain;
            access_log %%DIR%%/logs/leaky.log leaky;
            access_log %%DIR%%/usage.log llm_usage if=$llm_budget_usage;
            proxy_set_header X-Copy $http_authorization;
            proxy_set_header X-Copy-2 $http_x_api_key;
            proxy_pass $llm_budget_pass;
        }

        location /dead/ {
            llm_budget on;
            llm_budget_limit all key=all usd=1000 per=lifetime;
            llm_budget_pass dead;
            access_log %%DIR%%/logs/leaky.log leaky;
            access_log %%DIR%%/usage.log llm_usage if=$llm_budget_usage;
            proxy_pass $llm_budget_pass;
        }
END

my $chat = { model => 'm-std', max_tokens => 20,
             messages => [{ role => 'user', content => 'abcd' }] };
my $anthropic = { %$chat, model => 'c-std' };
my $path = '/v1/chat/completions';
my $sha = sha256_hex('k1');


# one key in each carrier

for my $case (
    [['Authorization', 'Bearer k1']],
    [['authorization', 'bearer k1']],
    [['AUTHORIZATION', 'BEARER   k1']],
    [['Authorization', "Bearer \t"], 401],
    [['Authorization', "Bearer k1 k2"], 401],
    [['Authorization', "Bearer\tk1"], 401],
    [['Authorization', 'Bearer'], 401],
    [['Authorization', 'Bearer '], 401],
    [['Authorization', ''], 401],
    [['Authorization', 'Basic azE6'], 401],
    [['Authorization', 'k1'], 401],
    [['Authorization', 'Bearerk1'], 401],
    [['x-api-key', 'k1']],
    [['X-API-Key', '  k1  ']],
    [['x-api-key', ''], 401],
    [['api-key', 'k1']],
    [['x-goog-api-key', 'k1']],
    [['x-api-key', 'a' x 4096], undef, sha256_hex('a' x 4096)],
    [['x-api-key', 'a' x 4097], 401],
    [['Authorization', 'Bearer ' . 'a' x 65536], 401],
    [['x-api-key', "k\x{e9}y"], undef, sha256_hex("k\x{e9}y")],
    [['x-key', 'k1'], 401])
{
    my ($header, $status, $id) = @$case;
    my $name = "$header->[0]: " . substr($header->[1], 0, 20);
    my $answer = post_json($path, $chat, headers => [$header]);

    is($answer->{status}, $status // 200, "T50: \"$name\"");

    if ($status) {
        is(code_of($answer), 'key_invalid', '... is no key');
        next;
    }

    is(last_line()->{key_id}, $id // $sha, '... is the key');
}

{
    my $answer = post_json("$path?key=k1", $chat);

    is($answer->{status}, 200, 'T50: a key in the query is a key');
    is(last_line()->{key_id}, $sha, '... the same one');

    $answer = post_json("$path?key=", $chat);
    is($answer->{status}, 401, 'T50: an empty one is not');

    $answer = post_json("$path?monkey=k1", $chat);
    is($answer->{status}, 401, 'T50: another argument is not');
}


# several

for my $case (
    [[Authorization => 'Bearer k1'], ['x-api-key' => 'k1'], '', 200],
    [[Authorization => 'Bearer k1'], ['api-key' => 'k2'], '', 400],
    [['x-api-key' => 'k1'], ['x-api-key' => 'k2'], '', 400],
    [['x-api-key' => 'k1'], ['x-api-key' => 'k1'], '', 400],
    [['x-goog-api-key' => 'k1'], ['x-api-key' => 'K1'], '', 400],
    [['x-api-key' => 'k1'], ['X-Other' => 'k2'], '?key=k1', 200],
    [['x-api-key' => 'k1'], ['X-Other' => 'k2'], '?key=k2', 400],
    [[Authorization => 'Basic azE6'], ['x-api-key' => 'k1'], '', 200])
{
    my ($first, $second, $query, $status) = @$case;
    my $answer = post_json("$path$query", $chat,
                           headers => [$first, $second]);

    is($answer->{status}, $status,
       "T50: @$first and @$second $query: $status");
    is(code_of($answer), 'key_conflict', '... never one of two')
        if $status == 400;
}

{
    my $answer = post_json("$path?key=k1&key=k2", $chat);

    is($answer->{status}, 400, 'T50: two keys in the query conflict');
    is(code_of($answer), 'key_conflict', '... by name');
}


# bring your own key: it travels, since we hold none

{
    post_json($path, $chat, headers => { Authorization => 'Bearer own-1',
        'OpenAI-Organization' => 'org-1', Cookie => 'c=1' });

    my $seen = $standin->last_request()->{header};

    is($seen->{authorization}, 'Bearer own-1',
       'without a credential of ours the client\'s key travels');
    is($seen->{'openai-organization'}, 'org-1', '... and its organization');
    is($seen->{cookie}, 'c=1', '... and its cookie');

    post_json('/v1/messages', $anthropic,
              headers => { 'x-api-key' => 'own-2' });
    is($standin->last_request()->{header}{'x-api-key'}, 'own-2',
       '... in the header it came in');

    for my $place ('', '/none') {
        post_json("$place$path?a=1&key=own-3&b=2", $chat);
        $seen = $standin->last_request();
        is($seen->{header}{'x-goog-api-key'}, 'own-3',
           'a key in the query travels in a header');
        is($seen->{target}, "$place$path?a=1&b=2",
           'T50: ... since URLs are logged');
    }
}


# a credential of ours replaces every carrier

my @all = ([Authorization => 'Bearer client-1'], ['x-api-key' => 'client-1'],
           ['api-key' => 'client-1'], ['x-goog-api-key' => 'client-1'],
           [Cookie => 'session=client-1'],
           ['Proxy-Authorization' => 'Basic client-1'],
           ['OpenAI-Organization' => 'org-1'], ['OpenAI-Project' => 'p-1'],
           ['X-Kept' => 'kept'], ['Accept-Encoding' => 'gzip, br'],
           ['Accept-Encoding' => 'deflate']);

for my $case (
    ['plain', $path, $chat, 'authorization', 'Bearer provider-plain-5'],
    ['plain', '/v1/messages', $anthropic, 'x-api-key', 'provider-plain-5'],
    ['plain', '/v1/models', undef, 'authorization',
     'Bearer provider-plain-5'],
    ['file', $path, $chat, 'authorization', 'Bearer provider-file-6'],
    ['file', '/v1/messages', $anthropic, 'x-api-key', 'provider-file-6'],
    ['env', $path, $chat, 'x-secret', 'provider-env-7'],
    ['env', '/v1/messages', $anthropic, 'x-secret', 'provider-env-7'])
{
    my ($provider, $url, $body, $name, $value) = @$case;
    my $answer = request($body ? 'POST' : 'GET',
                         "/$provider$url?key=client-1&a=1&key=client-1",
                         headers => [@all, $provider eq 'env'
                                     ? ['X-Secret' => 'client-1'] : ()],
                         body => $body);
    my $seen = $standin->last_request();
    my $sent = join("\n", $seen->{target},
                    map { "$_->[0]: $_->[1]" } @{$seen->{headers}});

    is($answer->{status}, 200, "T50: $provider serves $url");
    is($seen->{header}{$name}, $value, "T50: ... with $name set, once");
    unlike($sent, qr/client-1/, '... and no key of the client');
    unlike($sent, qr/cookie:|organization:|project:/i,
           '... nor who else might pay');
    is($seen->{header}{'x-kept'}, 'kept', '... but other headers');
    is((() = $sent =~ /provider-/g), 1, '... and the credential just once');

    my $base = $provider eq 'plain' ? '' : "/$provider";

    is($seen->{target}, "$base$url?a=1", '... no key in the query');

    if ($body) {
        is($seen->{header}{'accept-encoding'}, 'identity',
           'T07: identity is asked for, exactly once');
        is($seen->{header}{'content-type'}, 'application/json',
           '... with one Content-Type');
    }

    unlike($answer->{raw}, qr/provider-|client-1/,
           '... and the answer names no key');
}

{
    post_json("/plain$path?key=client-1", $chat);
    is($standin->last_request()->{target}, $path,
       'T50: a query that was nothing but a key is gone');
}


# llm_budget_key

{
    my %ids;

    for my $value ('Bearer k1', 'bearer k1', 'BEARER  k1') {
        post_json("/raw$path", $chat, headers => { Authorization => $value });
        $ids{last_line()->{key_id}}++;
    }

    is(scalar(keys %ids), 1,
       'llm_budget_key: another spelling of "Bearer" is no other payer');

    post_json("/raw$path", $chat, headers => { Authorization => 'Bearer k2' });
    $ids{last_line()->{key_id}}++;
    is(scalar(keys %ids), 2, 'llm_budget_key: another key is');

    my $answer = post_json("/raw$path", $chat,
                           headers => { 'x-api-key' => 'k1' });
    is($answer->{status}, 401,
       'llm_budget_key: an empty value is no identity');

    $answer = post_json("/raw$path", $chat,
                        headers => { Authorization => 'Bearer ' });
    is($answer->{status}, 401, 'llm_budget_key: ... nor is the bare scheme');

    %ids = ();

    for my $pair (['ab', 'c'], ['a', 'bc']) {
        post_json("/two$path", $chat, headers => {
            'X-Team' => $pair->[0], 'X-Env' => $pair->[1] });
        $ids{last_line()->{key_id}}++;
    }

    is(scalar(keys %ids), 2, 'llm_budget_key: several values do not run '
       . 'together');

    $answer = post_json("/two$path", $chat, headers => { 'X-Team' => 'a' });
    is($answer->{status}, 401, 'llm_budget_key: ... and none may be empty');

    $answer = post_json("/two$path", $chat, headers => { 'X-Team' => 'a',
        'X-Env' => 'b', 'x-api-key' => 'k1', 'api-key' => 'k2' });
    is($answer->{status}, 400,
       'llm_budget_key: two keys conflict all the same');
}


# logs

{
    post_json("/shown$path?a=1&key=client-3&b=2", $chat, headers => {
        'x-api-key' => 'client-3' });
    post_json("/shown/v1/none?key=client-3", $chat);
    post_json("/shown$path?key=client-3", { %$chat, model => 'none' });
    post_json("/dead$path?key=client-3", $chat);

    my $log = wait_for(sub {
        my $text = read_file("$nginx->{dir}/logs/leaky.log") // '';
        return (() = $text =~ /\n/g) == 4 ? $text : '';
    });

    ok($log, 'all calls are in the access log');
    unlike($log, qr/provider-/,
           'T50: $http_* in a log never shows our credential');
    like($log, qr/^\S+ \S+\?a=1&key=\*+&b=2 /m,
         'T50: a key in the query is masked there');

    # what the operator asked for by name is the client's header

    $log =~ s/ client-3 / /g;
    unlike($log, qr/client-3/, 'T50: ... in every variable');
}

balanced('the books agree');

{
    my $text = join('', map { read_file("$nginx->{dir}/$_") // '' }
                    'usage.log', 'logs/access.log');

    unlike($text, qr/provider-\w+-\d/,
           'T50: no log has the provider\'s credential');
    unlike($text, qr/client-\d|own-\d/, 'T50: ... nor a client\'s key');
    unlike($text, qr/"k[12]"|Bearer/, 'T50: ... however it came');

    $text = $nginx->log_text();
    unlike($text, qr/provider-\w+-\d/,
           'T50: nor has the error log our credential');
    unlike($text, qr/client-\d|own-\d/, 'T50: ... nor a client\'s key');
}

$nginx->stop();
done_testing();


sub location
{
    my ($provider) = @_;

    return <<"END";
        location /$provider/ {
            llm_budget on;
            llm_budget_limit all key=all usd=1000 per=lifetime;
            llm_budget_pass $provider;
            proxy_pass \$llm_budget_pass;
            proxy_http_version 1.1;
            proxy_set_header Host \$llm_budget_host;
        }
END
}


# the usage line of the last call

sub last_line
{
    wait_for(sub { usage_lines() >= $LLMBudget::MADE });

    return (usage_lines())[-1] // {};
}


sub code_of
{
    my ($answer) = @_;

    my $data = eval { JSON::PP->new->utf8->decode($answer->{body}) } // {};

    return $data->{error}{code} // '';
}
