#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# A model without a price is refused, or priced as another: never free (T06).
# What served is what is priced, if it has a price (T19).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More;

use LLMBudget;


need_module();

my $standin = start_standin();

my $nginx = start_nginx(conf => llm_conf(
    http => "    llm_budget_price_alias house-model m-std;\n"
        . "    llm_budget_price_alias team/model  gpt-4o-mini;",
    locations => <<'END'));
        location /as/ {
            llm_budget on;
            llm_budget_unknown_model price_as=c-std;
            llm_budget_limit as key=all usd=1000;
            proxy_pass http://standin;
        }
END

my $calls = $standin->stats()->{requests};

for my $model ('brand-new', 'm-std2', 'm-st', 'M-STD', 'm-std-2', 'sample_spec')
{
    my $answer = call('', $model);
    my $error = eval { decode_json($answer->{body})->{error} };

    is($answer->{status}, 400, "model \"$model\" is unknown (T06)");
    is($error->{code}, 'model_unpriced', 'and refused for it');
    is($error->{param}, 'model', 'with the member');
    like($error->{message}, qr/"\Q$model\E"/, 'and the name');
    is($answer->{headers}{'x-should-retry'}, 'false', 'for good');
}

is($standin->stats()->{requests}, $calls, 'none was sent');
is(spent(ledger_settled()), 0, 'none was charged');


for my $case (['m-std-2026-07-09', 'm-std'], ['m-std-20260709', 'm-std'],
              ['openai/gpt-4o', 'gpt-4o'], ['house-model', 'm-std'],
              ['team/model', 'gpt-4o-mini'])
{
    my ($model, $as) = @$case;

    is(call('', $model)->{status}, 200, "\"$model\" has a price (T19)");
    is(last_line()->{priced_as}, $as, "that of $as");
}

is(decode_json($standin->last_request()->{body})->{model}, 'team/model',
   'an alias is a price, and sent as it came');


# the answer's model, where it has a price

is(call('', 'm-std', 'served=m-mini; out=10')->{status}, 200,
   'another model may serve');
is(last_line()->{priced_as}, 'm-mini', 'and is priced as itself (T19)');
is(call('', 'm-std', 'served=m-std-2026-07-09')->{status}, 200,
   'a dated one may serve');
is(last_line()->{priced_as}, 'm-std', 'and is found');
is(call('', 'm-std', 'served=nobody-knows')->{status}, 200,
   'an unknown one may serve');

my $line = last_line();

is($line->{priced_as}, 'm-std', 'and is priced as what was sent');
ok((grep { $_ eq 'model_unpriced' } @{$line->{flags} // []}),
   'which the flags tell');


# priced as another

is(call('as', 'brand-new', 'out=10')->{status}, 200,
   'price_as lets an unknown model in');

$line = last_line();

is($line->{priced_as}, 'c-std', 'priced as the configured one (T06)');
is($line->{model}, 'brand-new', 'under its own name');
ok((grep { $_ eq 'model_unpriced' } @{$line->{flags} // []}), 'flagged');
is($line->{cost_nusd},
   $line->{input_tokens} * 3000 + $line->{output_tokens} * 15000,
   'and charged at its rates');
is(spent(ledger_settled(), 'as'), $line->{cost_nusd}, 'in the ledger, too');
is(call('as', 'm-mini')->{status}, 200, 'a known one is served there, too');
is(last_line()->{priced_as}, 'm-mini', 'at its own price');


# the stand-in's price map has no aliases and no price_as: what it billed is
# compared where it knows the model

my $got = balances();
my $known = 0;

for my $call (@{$got->{stats}{calls}}) {
    $known += $call->{billed_nusd};
}

is($got->{pending}, 0, 'no hold is pending');
is($got->{held}, 0, 'no account holds anything');
is(spent($got->{ledger}) + spent($got->{ledger}, 'as'), $got->{log},
   'the ledger is what was logged');
is(sum(map { $_->{cost_nusd} }
       grep { $_->{priced_as} && $_->{priced_as} !~ /^(?:c-std|gpt-4o-mini)$/
              && $_->{model} ne 'house-model' } @{$got->{usage}}),
   $known, 'and as billed where the provider knows the model');

$nginx->stop();
done_testing();


sub call
{
    my ($name, $model, $standin) = @_;

    return post_json((length $name ? "/$name" : '') . '/v1/chat/completions',
                     { model => $model, max_tokens => 50,
                       messages => [{ role => 'user', content => 'abcd' }] },
                     headers => { Authorization => 'Bearer k1' },
                     standin => $standin);
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
