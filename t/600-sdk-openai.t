#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# The official OpenAI client for Node.js: answers and streams reach it as they
# left the provider, and it understands every refusal the way we mean it.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;

use LLMBudget;
use LLMBudgetSDK;


need_module();
LLMBudgetSDK::need_sdk('openai');

my ($nginx, $standin, $direct) = LLMBudgetSDK::gateway();

my $url = "http://127.0.0.1:$nginx->{port}/v1";
my $sdk = LLMBudgetSDK->new('openai', baseURL => $url, apiKey => 'sk-ok');
my %straight = (direct => 1, client => { apiKey => 'sk-ok',
    baseURL => "http://127.0.0.1:$direct->{port}/v1" });

my %chat = (model => 'm-std', max_tokens => 100,
            messages => [{ role => 'user', content => 'Say something.' }]);
my %stream = (%chat, stream => JSON::PP::true);
my %usage = (stream_options => { include_usage => JSON::PP::true });
my %text = (model => 'm-std', max_output_tokens => 100, input => 'Say it.');


# a call through nginx and one to the stand-in itself give the same

sub same
{
    my ($title, $call, $body, %opt) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $null_usage = delete $opt{null_usage};
    my $got = $sdk->call($call, $body, %opt);
    my $want = $sdk->call($call, $body, %opt, %straight);

    my $what = $opt{stream} ? 'events' : 'value';

    if ($null_usage) {
        for my $event (@{$got->{events} // []}) {
            delete $event->{usage} unless defined $event->{usage};
        }
    }

    ok(defined $got->{$what} && !$got->{error}, "$title is served")
        or diag(explain($got->{error}));
    is_deeply(LLMBudgetSDK::plain($got->{$what}),
              LLMBudgetSDK::plain($want->{$what}),
              "$title is what the provider sent");
    is($got->{lines}, 1, "$title is one request");

    return $got->{$what};
}


# one attempt, refused with that class, status and code

sub refused
{
    my ($title, $got, $class, $status, $code, $message) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $error = $got->{error} // {};

    is($error->{class}, $class, "$title is a $class");
    is($error->{status}, $status, "$title has status $status");
    is($error->{code}, $code, "$title has the code $code");
    like($error->{message}, $message, "$title says why");
    is($got->{lines}, 1, "$title is not tried again");

    return $error;
}


my $value = same('a chat', 'chat.completions.create', \%chat,
                 standin => 'out=24;cached=4');

is($value->{usage}{completion_tokens}, 24, 'with the usage in it');
is(($standin->last_request())->{header}{authorization}, 'Bearer sk-provider',
   'the provider gets our credential, not the client\'s (T50)');

same('a response', 'responses.create', \%text, standin => 'out=24');
same('an embedding', 'embeddings.create',
     { model => 'm-embed', input => 'Some words.' }, standin => 'dims=8');

my $events = same('a stream with usage', 'chat.completions.create',
                  { %stream, %usage }, stream => 1, standin => 'out=24');

is($events->[-1]{usage}{completion_tokens}, 24, 'its last event is the usage');

$events = same('a streamed response', 'responses.create',
               { %text, stream => JSON::PP::true }, stream => 1,
               standin => 'out=24');

is($events->[-1]{type}, 'response.completed', 'with its last event');

# asked for by the module alone, the usage frame must not arrive; what remains
# of its request is "usage": null in the other chunks, as the client's type has

$events = same('a stream without usage', 'chat.completions.create', \%stream,
               stream => 1, standin => 'out=24', null_usage => 1);

is(scalar(grep { $_->{usage} || !@{$_->{choices}} } @$events), 0,
   'no event has the usage that the client did not ask for (T09)');

my $models = $sdk->call('models.list', undef);

is(ref $models->{value}, 'ARRAY', 'the models are listed')
    or diag(explain($models));


# a client that leaves is charged for the prompt and what it saw

for my $how (['a break out of the loop', 0], ['an abort', 1]) {
    my $got = $sdk->call('chat.completions.create', { %stream, %usage },
        stream => 1, leave_after => 4,
        abort => $how->[1] ? JSON::PP::true : JSON::PP::false,
        standin => 'count=body;wait_after=3;out=20');

    is(scalar(@{$got->{events} // []}), 4, "$how->[0] leaves a stream");

    my $line = (usage_lines())[-1];

    is($line->{end}, 'aborted', "$how->[0] is logged")
        or diag(explain($line));
    is($line->{output_tokens}, 3, "$how->[0] is charged what was seen (T37)");
    cmp_ok($line->{cost_nusd}, '>', 0, "$how->[0] costs");
}


# refusals

my $got = $sdk->call('chat.completions.create', \%chat,
                     client => { apiKey => 'sk-nobody' });

refused('an unknown key', $got, 'AuthenticationError', 401, 'key_invalid',
        qr/API key/);

$got = $sdk->call('chat.completions.create', { %chat, model => 'nope' });

my $error = refused('an unknown model', $got, 'BadRequestError', 400,
                    'model_unpriced', qr/"nope"/);
is($error->{param}, 'model', 'an unknown model is the parameter to blame');

$got = $sdk->call('chat.completions.create',
                  { messages => $chat{messages} });

refused('a missing model', $got, 'BadRequestError', 400, 'request_invalid',
        qr/is refused: missing member "model"\.$/);

my %poor = (client => { apiKey => 'sk-poor' });

$got = $sdk->call('chat.completions.create', { %chat, model => 'm-mini',
    max_tokens => 20 }, %poor, standin => 'prompt=1000;out=20');

ok($got->{value}, 'a call that costs more than its hold is served')
    or diag(explain($got));

for my $case (['chat.completions.create', { %chat, model => 'm-mini' }],
              ['chat.completions.create', { %stream, model => 'm-mini' },
               stream => 1],
              ['responses.create', { %text, model => 'm-mini' }])
{
    my ($call, $body, %opt) = @$case;

    $got = $sdk->call($call, $body, %opt, %poor);
    $error = refused("an exhausted budget at $call", $got, 'RateLimitError',
                     429, 'budget_exceeded',
                     qr/budget "person" is used up until \d{4}-/);
    is($error->{type}, 'budget_exceeded', 'with its type');
}


# a short wait is waited for: the client tries again, and gets in

$got = $sdk->call('chat.completions.create', \%chat,
    client => { apiKey => 'sk-seat' },
    while => ['chat.completions.create', { %stream, %usage }, stream => 1,
              leave_after => 1, client => { apiKey => 'sk-seat' },
              standin => 'count=body;wait_after=0']);

is($got->{tries}[0], 429, 'a second request at once is refused');
cmp_ok($got->{waits}[0] // 0, '>', 0, 'and told how long to wait');
is($got->{tries}[-1], 200, 'the client tries again and is served')
    or diag(explain($got));
is(scalar(@{$got->{tries}}), 2, 'after Retry-After, once');
ok($got->{value}{usage}, 'with an answer');


ok($sdk->stop(), 'the client ends');

balanced('the books agree');

$nginx->stop();

done_testing();
