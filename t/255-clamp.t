#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# llm_budget_clamp: a call that does not fit is let in with as many tokens of
# output as fit, down to a floor (T20).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More;

use LLMBudget;


need_module();

my $standin = start_standin();

my $nginx = start_nginx(conf => llm_conf(limit => '', locations =>
    location('money', 'usd=$http_x_limit')
    . location('tokens', 'tokens=$http_x_limit')
    . location('output', 'output_tokens=$http_x_limit')
    . location('input', 'input_tokens=$http_x_limit')
    . location('both', 'usd=$http_x_limit output_tokens=70')
    . location('floor', 'usd=$http_x_limit', 'llm_budget_clamp 40;')
    . location('one', 'usd=$http_x_limit', 'llm_budget_clamp 1;')
    . location('off', 'usd=$http_x_limit', 'llm_budget_clamp off;')
    . location('ladder', 'usd=$http_x_limit',
               'llm_budget_degrade at=90% m-std=m-mini;')
    . location('drop', 'usd=$http_x_limit',
               'llm_budget_degrade m-std=m-mini drop=user;')));

my $KEYS = 0;
my $messages = [{ role => 'user', content => 'abcd' }];


# -------------------------------------------------- to the token

for my $case (
    ['chat/completions', 'max_completion_tokens', 'm-std', 10000,
     { messages => $messages }],
    ['chat/completions', 'max_completion_tokens', 'm-std', 10000,
     { messages => $messages, max_completion_tokens => 900 }],
    ['chat/completions', 'max_tokens', 'm-std', 10000,
     { messages => $messages, max_tokens => 900 }],
    ['chat/completions', 'max_completion_tokens', 'm-std', 30000,
     { messages => $messages, n => 3 }],
    ['chat/completions', 'max_completion_tokens', 'm-std', 10000,
     { messages => $messages, max_completion_tokens => undef,
       stream => \1 }],
    ['completions', 'max_tokens', 'm-std', 10000,
     { prompt => 'abcd', max_tokens => 900 }],
    ['responses', 'max_output_tokens', 'm-std', 10000, { input => 'abcd' }],
    ['responses', 'max_output_tokens', 'm-std', 10000,
     { input => 'abcd', max_output_tokens => 16000, stream => \1 }],
    ['messages', 'max_tokens', 'c-std', 15000,
     { messages => $messages, max_tokens => 900 }])
{
    my ($path, $name, $model, $rate, $body) = @$case;
    my $limit = 2_345_678;
    my $answer = call('money', $limit, { %$body, model => $model }, $path);
    my $sent = sent();
    my $line = last_line();
    my $what = join(' and ', sort grep { $_ ne 'messages' } keys %$body);

    is($answer->{status}, 200, "$path with $what is let in");
    is($answer->{headers}{'x-llm-budget-verdict'}, 'warn',
       'the client is told');
    like($sent->{$name}, qr/^\d+$/, "$name is written");
    cmp_ok($line->{hold_nusd}, '<=', $limit, 'what is held fits');
    cmp_ok($line->{hold_nusd} + $rate, '>', $limit,
           'one token more would not (T20)');
    is(($line->{hold_nusd} - $sent->{$name} * $rate)
       % ($model eq 'c-std' ? 3000 : 2500), 0,
       "the hold is that of $sent->{$name} tokens");
    is_deeply([sort keys %$sent],
              [sort(keys %{{ %$body, model => 1, $name => 1,
                             $body->{stream} && $path =~ /chat/
                             ? (stream_options => 1) : () }})],
              'nothing else is added');
    is($line->{verdict}, 'warn', 'the usage line says so');
    is($line->{max_output}, $sent->{$name}, 'and names the ceiling');
    is($answer->{headers}{'x-llm-budget-max-output'}, $sent->{$name},
       'so does a header');
}


# ------------------------------------------------- other units

{
    my $answer = call('output', 50);

    is(sent()->{max_completion_tokens}, 50, 'output tokens clamp');

    # the prompt's keys, literals and text, 16 for its message, 64
    my $input = length('modelm-stdmessagesroleusercontentabcd') + 16 + 64;

    call('tokens', $input + 50);
    is(sent()->{max_completion_tokens}, 50, 'tokens clamp less the prompt');

    $answer = call('input', $input - 1);
    is($answer->{status}, 429, 'input tokens cannot be clamped');

    call('input', $input);
    is(sent()->{max_completion_tokens}, undef,
       'and need no clamp if they fit');

    call('both', 2_345_678);
    is(sent()->{max_completion_tokens}, 70, 'the tighter of two limits counts');
}


# -------------------------------------------------------- the floor

{
    my $fixed = (length('modelm-stdmessagesroleusercontentabcd') + 16 + 64)
        * 2500;

    for my $case (['money', 16, 15], ['floor', 40, 39], ['one', 1, 0]) {
        my ($name, $floor, $less) = @$case;

        is(call($name, $fixed + $floor * 10000)->{status}, 200,
           "$name clamps to $floor tokens");
        is(sent()->{max_completion_tokens}, $floor, 'and writes them');
        is(call($name, $fixed + $floor * 10000 - 1)->{status}, 429,
           "but not to $less");
    }

    my $answer = call('off', $fixed + 1000 * 10000);

    is($answer->{status}, 429, 'off refuses instead of a clamp');
    is($answer->{headers}{'x-llm-budget-code'}, 'request_exceeds_budget',
       'as too large');
    is(call('off', $fixed + 16384 * 10000)->{status}, 200,
       'and serves what fits');
    is(sent()->{max_completion_tokens}, undef, 'unchanged');

    # a request that asks for less than the floor

    is(call('money', $fixed + length('max_completion_tokens5') * 2500
                     + 5 * 10000,
            { model => 'm-std', messages => $messages,
              max_completion_tokens => 5 })->{status}, 200,
       'a small request that fits is not held up by the floor');
    is(sent()->{max_completion_tokens}, 5, 'as it came');
}


# --------------------------------------- with a ladder, with thinking

{
    my $answer = call('ladder', 1_000_000);

    is($answer->{headers}{'x-llm-budget-model'}, 'm-mini',
       'a cheaper model comes before a clamp');
    is($answer->{headers}{'x-llm-budget-verdict'}, 'degrade',
       'and is what the client is told');
    like(sent()->{max_completion_tokens}, qr/^\d+$/,
         'though both were needed');

    # the ceiling is inserted where the first member is cut

    call('drop', 1_000_000, '{"user":"u","model":"m-std","messages":'
         . encode_json($messages) . ',"stream":true}');

    my $sent = sent();

    is_deeply([sort keys %$sent],
              [qw(max_completion_tokens messages model stream
                  stream_options)],
              'a clamp, a drop and the usage of a stream go together');

    # of two ceilings only what is above the clamp is lowered

    call('output', 50, { model => 'm-std', messages => $messages,
                         max_completion_tokens => 7, max_tokens => 900 });

    $sent = sent();

    is($sent->{max_tokens}, 50, 'the larger of two ceilings is lowered');
    is($sent->{max_completion_tokens}, 7, 'and the smaller is not raised');

    # max_tokens must stay above what is set aside for thinking

    my %body = (model => 'c-std', messages => $messages, max_tokens => 4000,
                thinking => { type => 'enabled', budget_tokens => 1024 });

    $answer = call('money', 18_000_000, \%body, 'messages');
    is($answer->{status}, 200, 'a call that thinks is clamped');
    cmp_ok(sent()->{max_tokens}, '>', 1024, 'above its thinking (T55)');

    $answer = call('money', 15_500_000, \%body, 'messages');
    is($answer->{status}, 429, 'and refused rather than below it (T55)');
}

{
    my $answer = call('money', 100, { model => 'm-embed', input => 'abcd' },
                      'embeddings');

    is($answer->{status}, 429, 'an embedding has nothing to clamp');
}


my $got = balances();

is($got->{pending}, 0, 'no hold is pending');
is($got->{held}, 0, 'no account holds anything');
is(spent($got->{ledger}, 'money') + spent($got->{ledger}, 'both')
   + spent($got->{ledger}, 'floor') + spent($got->{ledger}, 'one')
   + spent($got->{ledger}, 'off') + spent($got->{ledger}, 'ladder')
   + spent($got->{ledger}, 'drop'),
   sum(map { $_->{cost_nusd} } grep {
       $_->{endpoint} !~ m{^/(?:tokens|output|input)/} } @{$got->{usage}}),
   'the ledger is what was logged');
is($got->{log}, $got->{billed}, 'the usage log is what was billed');

$nginx->stop();
done_testing();


sub location
{
    my ($name, $amount, $more) = @_;

    $more //= '';

    return <<"END";
        location /$name/ {
            llm_budget on;
            llm_budget_limit $name key=\$http_x_key $amount;
            $more
            proxy_pass http://standin;
        }
END
}


# One call on a new key; the limit is in nano-USD, or tokens.

sub call
{
    my ($name, $limit, $body, $path) = @_;

    $limit = sprintf('%d.%09d', int($limit / 1e9), $limit % 1e9)
        unless $name =~ /^(?:tokens|output|input)$/;

    return post_json("/$name/v1/" . ($path // 'chat/completions'),
                     $body // { model => 'm-std', messages => $messages },
                     headers => { Authorization => 'Bearer k1',
                                  'X-Key' => 'k' . ++$KEYS,
                                  'X-Limit' => $limit },
                     standin => 'out=3');
}


sub sent
{
    return decode_json($standin->last_request()->{body});
}


sub last_line
{
    my @lines;

    wait_for(sub {
        @lines = usage_lines();
        return @lines >= $LLMBudget::MADE;
    });

    return $lines[-1];
}


sub sum
{
    my $sum = 0;

    $sum += $_ for @_;

    return $sum;
}
