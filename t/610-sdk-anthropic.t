#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# The official Anthropic client for Node.js: messages and their streams reach
# it as they left the provider, and refusals are errors of its own classes.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;

use LLMBudget;
use LLMBudgetSDK;


need_module();
LLMBudgetSDK::need_sdk('@anthropic-ai/sdk');

my ($nginx, $standin, $direct) = LLMBudgetSDK::gateway();

my $sdk = LLMBudgetSDK->new('anthropic', apiKey => 'sk-ok',
    baseURL => "http://127.0.0.1:$nginx->{port}");
my %straight = (direct => 1, client => { apiKey => 'sk-ok',
    baseURL => "http://127.0.0.1:$direct->{port}" });

my %messages = (model => 'c-std', max_tokens => 100,
                messages => [{ role => 'user', content => 'Say something.' }]);
my %stream = (%messages, stream => JSON::PP::true);


# a call through nginx and one to the stand-in itself give the same

sub same
{
    my ($title, $call, $body, %opt) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $got = $sdk->call($call, $body, %opt);
    my $want = $sdk->call($call, $body, %opt, %straight);

    my $what = $opt{stream} ? 'events' : 'value';

    ok(defined $got->{$what} && !$got->{error}, "$title is served")
        or diag(explain($got->{error}));
    is_deeply(LLMBudgetSDK::plain($got->{$what}),
              LLMBudgetSDK::plain($want->{$what}),
              "$title is what the provider sent");
    is($got->{lines}, 1, "$title is one request");

    return $got->{$what};
}


# one attempt, refused with that class, status, type and code

sub refused
{
    my ($title, $got, $class, $status, $type, $code, $message) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $error = $got->{error} // {};
    my $inner = ref $error->{body} eq 'HASH' ? $error->{body}{error} : {};

    is($error->{class}, $class, "$title is a $class");
    is($error->{status}, $status, "$title has status $status");
    is($inner->{type}, $type, "$title has the type $type");
    is($inner->{code}, $code, "$title has the code $code");
    like($error->{message}, $message, "$title says why");
    is($got->{lines}, 1, "$title is not tried again");
}


my $value = same('a message', 'messages.create', \%messages,
                 standin => 'out=24;cached=4;write5m=8');

is($value->{usage}{output_tokens}, 24, 'with the usage in it');

my $header = ($standin->last_request())->{header};

is($header->{'x-api-key'}, 'sk-provider',
   'the provider gets our credential (T50)');
is($header->{authorization}, undef, 'and none of the client\'s');

my $events = same('a stream', 'messages.create', \%stream, stream => 1,
                  standin => 'out=24');

is($events->[-1]{type}, 'message_stop', 'a stream ends with message_stop');

same('a stream of the helper', 'messages.stream', \%messages, stream => 1,
     standin => 'out=24;delta=full');

my $count = $sdk->call('messages.countTokens', {
    model => 'c-std', messages => $messages{messages} });

cmp_ok($count->{value}{input_tokens} // 0, '>', 0, 'tokens are counted');


# a client that leaves is charged for the prompt and what it saw: four events
# before the first delta, the ping kept by the client

for my $how (['a break out of the loop', 0], ['an abort', 1]) {
    my $got = $sdk->call('messages.create', \%stream,
        stream => 1, leave_after => 5,
        abort => $how->[1] ? JSON::PP::true : JSON::PP::false,
        standin => 'count=body;wait_after=3;out=20');

    is(scalar(@{$got->{events} // []}), 5, "$how->[0] leaves a stream");

    my $line = (usage_lines())[-1];

    is($line->{end}, 'aborted', "$how->[0] is logged")
        or diag(explain($line));
    is($line->{output_tokens}, 3, "$how->[0] is charged what was seen (T37)");
    cmp_ok($line->{cost_nusd}, '>', 0, "$how->[0] costs");
}


# refusals

refused('an unknown key',
        $sdk->call('messages.create', \%messages,
                   client => { apiKey => 'sk-nobody' }),
        'AuthenticationError', 401, 'authentication_error', 'key_invalid',
        qr/API key/);

refused('an unknown model',
        $sdk->call('messages.create', { %messages, model => 'nope' }),
        'BadRequestError', 400, 'invalid_request_error', 'model_unpriced',
        qr/nope/);

my %poor = (client => { apiKey => 'sk-poor' });

my $got = $sdk->call('messages.create',
                     { %messages, model => 'm-mini', max_tokens => 20 }, %poor,
                     standin => 'prompt=1000;out=20');

ok($got->{value}, 'a call that costs more than its hold is served')
    or diag(explain($got));

for my $case (['messages.create', \%messages],
              ['messages.create', \%stream, stream => 1],
              ['messages.stream', \%messages, stream => 1])
{
    my ($call, $body, %opt) = @$case;

    refused("an exhausted budget at $call",
            $sdk->call($call, $body, %opt, %poor),
            'RateLimitError', 429, 'rate_limit_error', 'budget_exceeded',
            qr/budget .{0,2}person.{0,2} is used up until \d{4}-/);
}


# a short wait is waited for: the client tries again, and gets in

$got = $sdk->call('messages.create', \%messages,
    client => { apiKey => 'sk-seat' },
    while => ['messages.create', \%stream, stream => 1, leave_after => 1,
              client => { apiKey => 'sk-seat' },
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
