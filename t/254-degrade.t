#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# llm_budget_degrade: when a budget runs low, or has no room, a call goes to
# a cheaper model instead of being refused (T55).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More;

use LLMBudget;


need_module();

my $other = start_standin();
my $standin = start_standin();

my $nginx = start_nginx(workers => 2, conf => llm_conf(
    limit => '', server => <<'END',
        llm_budget_clamp off;
        llm_budget_reserve default output=10;
END
    http => <<"END",
    llm_budget_provider main {
        pass  http://standin/v1;
    }

    llm_budget_provider other {
        pass     http://127.0.0.1:$other->{port}/v1;
        api_key  sk-of-the-other;
    }
END
    locations => location('plain', '', 'llm_budget_degrade at=10%'
                          . ' m-std=m-mini drop=reasoning_effort,top_p'
                          . ' max_output=5;')
        . location('ladder', '', "llm_budget_degrade at=10% m-std=m-mini;\n"
                   . 'llm_budget_degrade at=50% *=m-free;')
        . location('full', '', 'llm_budget_degrade m-std=m-mini;')
        . location('steps', '', "llm_budget_degrade at=90% m-std=m-mini;\n"
                   . 'llm_budget_degrade at=95% m-mini=m-free;')
        . location('of', 'llm_budget_limit side key=$http_x_key tokens=1000;',
                   'llm_budget_degrade at=10% of=side m-std=m-mini;')
        . location('calls', 'llm_budget_limit rate key=$http_x_key'
                   . ' requests=2;', 'llm_budget_degrade at=1% m-std=m-mini;')
        . location('rate', 'llm_budget_limit pace key=$http_x_key'
                   . ' requests=4;',
                   'llm_budget_degrade at=50% of=pace m-std=m-mini;')
        . location('pass', 'llm_budget_pass main;',
                   'llm_budget_degrade at=10% m-std=m-mini pass=other;',
                   '$llm_budget_pass')));

my $KEYS = 0;

# a call of known cost: 100 * 2500 + 10 * 10000
my $cost = 350_000;


# ----------------------------------- below, at, above (T55)

for my $case (['a nano-USD below', $cost * 10 + 10, 'm-std'],
              ['exactly at', $cost * 10, 'm-mini'],
              ['above', $cost * 10 - 10, 'm-mini'],
              ['far below', 1_000_000_000, 'm-std'])
{
    my ($where, $limit, $model) = @$case;
    my $key = key('plain');
    my $answer = call('plain', $key, $limit);

    is($answer->{headers}{'x-llm-budget-verdict'},
       $model eq 'm-std' ? 'allow' : 'degrade', "$where the threshold");
    is(sent()->{model}, $model, "$model is sent (T55)");
    is($answer->{headers}{'x-llm-budget-model'}, $model,
       'and the client is told');
    is($answer->{headers}{'x-llm-budget-degraded-from'},
       $model eq 'm-std' ? undef : 'm-std', 'what it had asked for');
}


# ------------------------------- what is in flight counts

{
    my $key = 'flight';
    my $hold;

    my @answers = parallel(2, sub {
        my ($i) = @_;

        if ($i == 0) {
            call('plain', $key, 1_000_000_000, standin => 'delay=2000');
            return { model => '' };
        }

        wait_for(sub {
            my ($account) = grep { $_->{key} eq $key && $_->{held} > 0 }
                @{ledger()->{accounts}};
            $hold = $account->{held} if $account;
            return $account;
        });

        my @models = map {
            call('plain', $key, $_)->{headers}{'x-llm-budget-model'}
        } $hold * 10 + 10, $hold * 10;

        return { model => "@models" };
    });

    # the first of the two adds to what is spent, and only makes it more

    is($answers[1]{model}, 'm-std m-mini',
       'spent and held together reach the threshold (T55)');
}


# ----------------------------------------- what is sent

{
    my $key = key('plain');
    my $text = 'say "model":"m-std" and \"top_p\":1';
    my %body = (messages => [{ role => 'user', content => $text }],
                temperature => 1);

    for my $case (
        ['{"reasoning_effort":"high","model":"m-std","max_tokens":9,%s}', 5],
        ['{"model":"m-std","max_tokens":3,%s,"top_p":0.5}', 3],
        ['{"top_p":0.5,"reasoning_effort":"low","model":"m-std",%s}', 5],
        ['{ "model" : "m-std" , %s , "reasoning_effort" : null }', 5],
        ['{"top_p":1,"model":"m-std",%s,"max_tokens":null,'
         . '"reasoning_effort":"low"}', 5])
    {
        my ($form, $most) = @$case;
        my $raw = sprintf($form, substr(JSON::PP->new->canonical
                                        ->encode(\%body), 1, -1));
        my $answer = call('plain', $key, $cost * 10, body => $raw);
        my $sent = sent();

        is($answer->{status}, 200, 'a body is rewritten');
        is($sent->{model}, 'm-mini', 'for the other model');
        is_deeply([grep { exists $sent->{$_} } qw(reasoning_effort top_p)],
                  [], 'without the members to drop (T55)');
        is($sent->{max_completion_tokens} // $sent->{max_tokens}, $most,
           "with at most $most tokens to say");
        is($sent->{messages}[0]{content}, $text, 'and the same text');
        is($sent->{temperature}, 1, 'and the rest');
    }
}


# ------------------------------------- priced and held anew

{
    my $key = key('plain');

    is(call('plain', $key, $cost * 10,
            standin => 'prompt=100; out=5')->{status},
       200, 'a call is degraded');

    my $line = last_line();

    is($line->{verdict}, 'degrade', 'the usage line says so');
    is($line->{model_requested}, 'm-std', 'what was asked for');
    is($line->{model}, 'm-mini', 'what was sent');
    is($line->{priced_as}, 'm-mini', 'what it is priced as');
    is($line->{cost_nusd}, 100 * 150 + 5 * 600, 'at its rates');
    is(($line->{hold_nusd} - 5 * 600) % 150, 0,
       'the hold is made of its rates, too');
    cmp_ok($line->{hold_nusd}, '<', 100 * 150, 'and is as small');
}


# -------------------------------------------- several rungs

{
    my $key = key('ladder');

    is(call('ladder', $key, $cost * 10)->{headers}{'x-llm-budget-model'},
       'm-mini', 'the rung whose threshold is reached is taken');
    is(call('ladder', $key, $cost * 2)->{headers}{'x-llm-budget-model'},
       'm-free', 'with two reached the higher one');

    my $answer = call('ladder', $key, $cost * 2, model => 'c-std');

    is($answer->{headers}{'x-llm-budget-model'}, 'm-free',
       'a star takes any model');
    is($answer->{headers}{'x-llm-budget-degraded-from'}, 'c-std',
       'and names it');

    $answer = call('ladder', $key, $cost * 2, model => 'm-free');

    is($answer->{headers}{'x-llm-budget-verdict'}, 'allow',
       'but the model itself is not degraded');
    is($answer->{headers}{'x-llm-budget-degraded-from'}, undef,
       'to itself');
    is(call('ladder', $key, $cost * 3, model => 'm-mini')
       ->{headers}{'x-llm-budget-verdict'}, 'allow',
       'nor one that no reached rung names');
}


# ------------------------- no room, though below the threshold

{
    # 125000 and some are held for m-std, and less than 20000 for m-mini

    my $answer = call('full', 'f1', 100_000);

    is($answer->{status}, 200, 'a call that does not fit is degraded');
    is($answer->{headers}{'x-llm-budget-model'}, 'm-mini',
       'below any threshold (T55)');

    my $left = $answer->{headers}{'x-llm-budget-remaining-usd'};

    is($left, sprintf('0.%09d', 100_000 - last_line()->{hold_nusd}),
       'what remains is told');

    $answer = call('full', 'f2', 5_000);

    is($answer->{status}, 429, 'one that is still too dear is refused');
    is($answer->{headers}{'x-llm-budget-code'}, 'request_exceeds_budget',
       'as too large');
    is($answer->{headers}{'x-llm-budget-model'}, undef,
       'without a word on models');
    is(last_line()->{verdict}, 'deny', 'and logged so');

    $answer = call('steps', 's1', 5_000);

    is($answer->{headers}{'x-llm-budget-model'}, 'm-free',
       'rung after rung is tried until one fits');
    is($answer->{headers}{'x-llm-budget-degraded-from'}, 'm-std',
       'from what was asked for');

    is(call('full', 'f3', 100_000, model => 'c-std')->{status}, 429,
       'a model no rung names is refused');
}


# ----------------------------------------------- of=, units

{
    my $key = key('of');        # 110 tokens of 1000 are spent: above

    is(call('of', $key, 1_000_000_000)->{headers}{'x-llm-budget-model'},
       'm-mini', 'of= looks at that limit');
    is(call('of', 'fresh', 3_000_000)->{headers}{'x-llm-budget-model'},
       'm-std', 'only');

    key('calls', 'c1');

    is(call('calls', 'c2', 1_000_000_000)->{headers}{'x-llm-budget-model'},
       'm-std', 'without of= a count of requests degrades nothing');

    call('calls', 'c2', 1_000_000_000);

    is(call('calls', 'c2', 1_000_000_000)->{headers}{'x-llm-budget-code'},
       'rate_limited', 'nor does it when it is used up');
    is_deeply([map { call('rate', 'r1', 1_000_000_000)
                     ->{headers}{'x-llm-budget-model'} } 1 .. 4],
              ['m-std', 'm-std', 'm-mini', 'm-mini'],
              'with of= it does');
}


# --------------------------------------- another provider

{
    my $key = key('pass');
    my $before = $other->stats()->{requests};

    is(sent()->{model}, 'm-std', 'the first call went to the main provider');

    my $answer = call('pass', $key, $cost * 10);

    is($answer->{status}, 200, 'a rung may have another provider');
    is($other->stats()->{requests}, $before + 1, 'which gets the call');

    my $request = $other->last_request();

    is(decode_json($request->{body})->{model}, 'm-mini', 'of its model');
    is($request->{header}{authorization}, 'Bearer sk-of-the-other',
       'with its credential, not the client\'s');
    is(last_line()->{provider}, 'other', 'as the usage line says');
}


my $got = balances();
my $billed = $got->{billed} + $other->stats()->{billed_nusd};

is($got->{pending}, 0, 'no hold is pending');
is($got->{held}, 0, 'no account holds anything');
is(spent($got->{ledger}, 'low'), $billed, 'the ledger is what was billed');
is($got->{log}, $billed, 'the usage log is what was billed');

$nginx->stop();
done_testing();


sub location
{
    my ($name, $more, $degrade, $pass) = @_;

    $pass //= 'http://standin';

    return <<"END";
        location /$name/ {
            llm_budget on;
            llm_budget_limit low key=\$http_x_key usd=\$http_x_limit;
            $more
            $degrade
            proxy_pass $pass;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
END
}


# A new key, one call of which has cost $cost.

sub key
{
    my ($name, $key) = @_;

    $key //= 'k' . ++$KEYS;

    my $answer = call($name, $key, 1_000_000_000,
                      standin => 'prompt=100; out=10');

    is($answer->{status}, 200, "$cost nano-USD are spent");

    wait_for(sub {
        my ($account) = grep { $_->{key} eq $key && $_->{spent} > 0
                               && $_->{unit} eq 'usd' }
            @{ledger()->{accounts}};
        return $account;
    });

    return $key;
}


# One call; the amount of its limit is in nano-USD.  Options: model, standin,
# body => raw text.

sub call
{
    my ($name, $key, $limit, %opt) = @_;

    my $body = $opt{body} // {
        model => $opt{model} // 'm-std',
        messages => [{ role => 'user', content => 'abcd' }] };

    return post_json("/$name/v1/chat/completions", $body,
                     headers => { Authorization => 'Bearer k1',
                                  'X-Key' => $key,
                                  'X-Limit' => sprintf('%d.%09d',
                                      int($limit / 1e9), $limit % 1e9) },
                     standin => $opt{standin} // 'out=1');
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
