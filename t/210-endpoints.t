#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# Endpoints: a method and a path are metered, free or refused, and the
# provider sees the path that was judged (T05, T39, T48, T49, T60).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP ();
use Test::More;

use LLMBudget;


need_module();

my $standin = start_standin();

my $limit = "            llm_budget_key \$http_authorization;\n"
            . "            llm_budget_limit all key=all usd=1000"
            . " per=lifetime;\n";
my $pass = "            proxy_http_version 1.1;\n"
           . "            proxy_set_header Connection \"\";\n"
           . "            proxy_pass http://standin;\n        }\n";

my $nginx = start_nginx(conf => llm_conf(
    locations => <<"END" . slashes_server()));
        location /own/ {
            llm_budget on;
$limit
            llm_budget_endpoint POST /own/v1/chat metered chat;
            llm_budget_endpoint GET /own/files/* free;
            llm_budget_endpoint POST /v1/embeddings refused;
            llm_budget_endpoint GET /v1/models refused;
            llm_budget_endpoint POST /own/last refused;
            llm_budget_endpoint POST /own/last free;

$pass
        location /base/ {
            llm_budget on;
$limit
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_pass http://standin/other/;
        }

        location /spent/ {
            llm_budget on;
            llm_budget_key \$http_authorization;
            llm_budget_limit spent key=all usd=0 per=lifetime;
$pass
END

my $key = { Authorization => 'Bearer k1' };
my $chat = { model => 'm-std', max_tokens => 20,
             messages => [{ role => 'user', content => 'abcd' x 10 }] };
my $anthropic = { %$chat, model => 'c-std' };
my $reached = 0;                # requests the stand-in has seen


# every metered endpoint

for my $case (
    ['/v1/chat/completions', $chat],
    ['/v1/completions', { model => 'm-std', max_tokens => 20,
                          prompt => 'abcd' }],
    ['/v1/responses', { model => 'm-std', max_output_tokens => 20,
                        input => 'abcd' }],
    ['/v1/embeddings', { model => 'm-embed', input => 'abcd' }],
    ['/v1/messages', $anthropic])
{
    my ($path, $body) = @$case;
    my $before = spent(ledger());
    my $answer = post_json($path, $body, headers => $key);

    is($answer->{status}, 200, "T05: POST $path is served");
    $reached++;

    ok(wait_for(sub { spent(ledger()) > $before }),
       "T05: POST $path is charged");
}


# paths: served as the canonical one, or never forwarded

for my $case (
    ['/v1//chat/completions', 200],
    ['//v1/chat/completions', 200],
    ['/v1/chat%2Fcompletions', 200],
    ['/v1/chat%2fcompletions', 200],
    ['/v1/./chat/completions', 200],
    ['/v1/models/../chat/completions', 200],
    ['/v1/models/%2e%2e/chat/completions', 200],
    ['/v1/models/..%2fchat/completions', 200],
    ['/v1/%63hat/completions', 200],
    ['/v1/chat/completions?a=b', 200, '/v1/chat/completions?a=b'],
    ['/v1/chat/completions?', 200],
    ['/v1/chat/completions#part', 200],
    ['http://elsewhere/v1/chat/completions', 200])
{
    my ($path, $status, $target) = @$case;
    my $answer = post_json($path, $chat, headers => $key);

    is($answer->{status}, $status, "T05: $path is the canonical path");
    $reached++;

    my @seen = $standin->requests();

    is(scalar(@seen), $reached, '... it reached the provider once');
    is($seen[-1]{target}, $target // '/v1/chat/completions',
       '... under its normalized path');
}

for my $path ('/v1/chat/completions/', '/v1/chat/completions;x',
              '/v1/chat;x/completions', '/v1/chat/completions%3Bx',
              '/v1/chat/completions%253Bx', '/v1/chat%252Fcompletions',
              '/v1/chat%5ccompletions', '/v1/chat\\completions',
              '/v1/chat/Completions', '/v1/CHAT/completions',
              '/v1/chat/completions%20', '/v1/chat/completions%0a',
              '/v1/chat/completions.json', '/v1/xchat/completions',
              '/v1/chat/completions/x', '/v1/', '/v1/anything')
{
    my $answer = post_json($path, $chat, headers => $key);

    is($answer->{status}, 404, "T05: $path is refused");
    is(code_of($answer), 'endpoint_not_allowed', '... in JSON');
}

for my $path ('/v1/chat/completions%00', '/v1/chat/completions%zz',
              '/v1/../../v1/chat/completions')
{
    my $answer = post_json($path, $chat, headers => $key, uncounted => 1);

    is($answer->{status}, 400, "T05: $path is refused by nginx itself");
}

{
    my $answer = post_json('/V1/chat/completions', $chat, headers => $key,
                           uncounted => 1);

    is($answer->{status}, 404,
       'T05: /V1/chat/completions is in no metered location');
}

for my $method (qw(GET HEAD PUT PATCH DELETE OPTIONS post))
{
    my $answer = request($method, '/v1/chat/completions', headers => $key);

    is($answer->{status}, $method eq 'post' ? 400 : 404,
       "T05: $method of a metered path is refused");
    $LLMBudget::MADE-- if $method eq 'post';
}


# what is never served without being asked for (T39, T48, T49)

for my $case (
    ['POST', '/v1/audio/speech'], ['POST', '/v1/audio/transcriptions'],
    ['POST', '/v1/images/generations'], ['POST', '/v1/images/edits'],
    ['POST', '/v1/batches'], ['POST', '/v1/files'],
    ['POST', '/v1/fine_tuning/jobs'], ['POST', '/v1/vector_stores'],
    ['POST', '/v1/threads/runs'], ['POST', '/v1/assistants'],
    ['POST', '/v1/moderations'], ['POST', '/v1/messages/batches'],
    ['POST', '/v1/complete'], ['POST', '/v1/realtime/client_secrets'],
    ['GET', '/v1/realtime'], ['GET', '/v1/responses/resp_1'],
    ['POST', '/v1/models'], ['DELETE', '/v1/models/m-std'])
{
    my ($method, $path) = @$case;
    my $answer = request($method, $path, headers => $key,
                         $method eq 'POST' ? (body => $chat) : ());

    is($answer->{status}, 404, "T39, T48: $method $path is refused");
    is($answer->{headers}{'content-type'}, 'application/json',
       '... as JSON');
    is(code_of($answer), 'endpoint_not_allowed', '... with its code');
}

{
    my $answer = get('/v1/realtime', headers => { %$key,
        Connection => 'Upgrade', Upgrade => 'websocket' });

    is($answer->{status}, 400, 'T49: an upgrade is refused');
    is(code_of($answer), 'upgrade_not_allowed', '... with its code');

    $answer = post_json('/v1/chat/completions', $chat, headers => { %$key,
        Connection => 'Upgrade', Upgrade => 'websocket' });

    is($answer->{status}, 400, 'T49: ... on a metered path as well');
}

{
    my $answer = post_json('/v1/responses', { model => 'm-std',
        input => 'abcd', background => JSON::PP::true }, headers => $key);

    is($answer->{status}, 400, 'T38: background: true is refused');
    is(json($answer)->{error}{param}, 'background',
       '... and blamed by its name');

    $answer = post_json('/v1/responses', { model => 'm-std',
        input => 'abcd', max_output_tokens => 20,
        background => JSON::PP::false }, headers => $key);

    is($answer->{status}, 200, 'T38: background: false is served');
    $reached++;
}


# the dialect of refusals

{
    my $openai = json(post_json('/v1/nothing', $chat, headers => $key));

    is(ref $openai->{error}, 'HASH', 'a refusal has an error object');
    is($openai->{error}{type}, 'invalid_request_error',
       'a refusal to an OpenAI client is of its types');
    is($openai->{error}{source}, 'gateway',
       '... and says that the gateway refused');
    ok(exists $openai->{error}{param}, '... and has a param');

    my $other = json(post_json('/v1/messages/batches', $anthropic,
                               headers => $key));

    is($other->{type}, 'error',
       'a refusal to an Anthropic client is of its shape');
    is($other->{error}{type}, 'not_found_error', '... and of its types');
    like($other->{request_id}, qr/^[0-9a-f]{32}$/, '... with a request id');
}

is($standin->stats()->{requests}, $reached,
   'T05: nothing that was refused reached the provider');


# llm_budget_endpoint

{
    my $answer = post_json('/own/v1/chat', $chat, headers => $key);

    # the stand-in does not know that path, which is an upstream error

    is($answer->{status}, 404,
       'llm_budget_endpoint adds a metered path');
    is($answer->{headers}{'x-llm-budget-verdict'}, 'allow',
       '... that is judged');
    is($standin->last_request()->{target}, '/own/v1/chat',
       '... and forwarded');

    $answer = post_json('/own/v1/chat', { %$chat, model => 'none' },
                        headers => $key);

    is(code_of($answer), 'model_unpriced', '... and read');

    get('/own/files/f-1', headers => $key);
    is($standin->last_request()->{target}, '/own/files/f-1',
       'llm_budget_endpoint adds a free path');

    for my $case (['GET', '/own/files/'], ['GET', '/own/files/a/b'],
                  ['POST', '/own/files/f-1'],
                  ['POST', '/own/v1/embeddings'], ['GET', '/own/v1/models'])
    {
        $answer = request(@$case, headers => $key,
                          $case->[0] eq 'POST' ? (body => $chat) : ());

        is(code_of($answer), 'endpoint_not_allowed',
           "llm_budget_endpoint: @$case is refused");
    }

    $standin->reset();
    request('POST', '/own/last', headers => $key, body => $chat);
    is($standin->stats()->{requests}, 1,
       'the last llm_budget_endpoint of a path decides');

    $answer = post_json('/own/v1/chat/completions', $chat,
                        headers => $key);

    is($answer->{status}, 200,
       'llm_budget_endpoint leaves the built-in endpoints in place');
}

{
    my $answer = post_json('/base/v1/chat%2Fcompletions', $chat,
                           headers => $key);

    is($answer->{status}, 200, 'a location may stand above "/v1"');
    is($standin->last_request()->{target}, '/other/v1/chat/completions',
       '... and proxy_pass with a path replaces what is before it');
}

{
    my $answer = post_json('/v1//chat/completions', $chat, headers => $key,
                           port => $nginx->port_of('PORT1'));

    is(code_of($answer), 'endpoint_not_allowed',
       'T05: an empty segment that merge_slashes left is refused');
}


# what costs nothing is not blocked by an empty budget (T60)

{
    my $answer = post_json('/spent/v1/chat/completions', $chat,
                           headers => $key);

    is($answer->{status}, 429, 'T60: an empty budget refuses a call');

    for my $case (['GET', '/spent/v1/models'],
                  ['GET', '/spent/v1/models/m-std'],
                  ['POST', '/spent/v1/messages/count_tokens'])
    {
        $answer = request(@$case, headers => $key,
                          $case->[0] eq 'POST' ? (body => $anthropic) : ());

        is($answer->{status}, 200, "T60: ... but not @$case");
    }

    my $count = json($answer)->{input_tokens};

    ok($count, 'T60: the tokens were counted');
    is($standin->last_request()->{body_length},
       length(JSON::PP->new->canonical->encode($anthropic)),
       'T60: the body of a free call passes as it is');

    $answer = get('/spent/v1/models');
    is($answer->{status}, 401, 'T60: a free call needs a key all the same');
}

# the calls to /spent have a limit of their own, and cost nothing; those
# before the reset above were billed, too

{
    my $got = balances();
    my $sum = 0;

    is($got->{pending}, 0, 'no hold is pending');
    is($got->{lines}, $got->{wanted}, 'every request has its usage line');
    is($got->{spent}, $got->{log}, 'the ledger is what the usage log says');
}

$nginx->stop();
done_testing();


# a server where merge_slashes is off

sub slashes_server
{
    return <<"END";
    }

    server {
        listen 127.0.0.1:%%PORT1%%;
        merge_slashes off;

        access_log %%DIR%%/usage.log llm_usage if=\$llm_budget_usage;

        location / {
            llm_budget on;
$limit$pass
END
}


sub json
{
    my ($answer) = @_;

    return eval { JSON::PP->new->utf8->decode($answer->{body}) } // {};
}


sub code_of
{
    my ($answer) = @_;

    return json($answer)->{error}{code} // '';
}
