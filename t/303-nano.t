#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# A nano-USD is neither lost nor made, on a small account nor on one of
# millions of dollars (T53).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP ();
use Test::More;

use LLMBudget;
use Metered;


need_module();

# a token of "nano" costs 1 nano-USD, one of "tenth" a tenth, one of "third"
# nearly a third; one of "gold" a dollar

my %price = (nano => '1e-09', tenth => '1e-10', third => '3e-10',
             gold => '1');
my $prices = '{' . join(',', map { <<"END" } sort keys %price) . '}';
"$_": { "litellm_provider": "openai", "mode": "chat",
        "implausible_ok": true, "max_output_tokens": 1000,
        "input_cost_per_token": $price{$_}, "output_cost_per_token": 0.0 }
END
my $file = write_file("$LLMBudget::BUILD/nano-$$.json", $prices);
my $standin = start_standin(prices => $file);

my $nginx = start_nginx(workers => 2, conf => llm_conf(
    prices => $file,
    key => '$http_x_who',
    limit => ['all key=all usd=9000000 per=lifetime',
              'who usd=0.00000003 per=lifetime'],
    location => '            llm_budget_reserve off;',
    locations => <<'END'));
        location /big/ {
            llm_budget on;
            llm_budget_key $http_x_who;
            llm_budget_limit all key=all usd=9000000 per=lifetime;
            llm_budget_reserve off;
            proxy_pass http://standin;
        }
END


# thirty calls of a nano-USD in a limit of thirty

my @status = map { settle('nano', 1, 'k1') } 1 .. 32;

is_deeply(\@status, [(200) x 30, 429, 429],
          'T53: a limit of 30 nano-USD has room for 30 calls of one');
is(account('who')->{spent}, 30, '... and not a nano more is charged');

# what is below is rounded up, once for each call

for my $case (['tenth', 1, 1], ['tenth', 10, 1], ['tenth', 11, 2],
              ['third', 1, 1], ['third', 3, 1], ['third', 4, 2])
{
    my ($model, $tokens, $want) = @$case;
    my $before = spent(ledger());

    settle($model, $tokens, "$model-$tokens");
    is(spent(ledger()) - $before, $want,
       "T53: $tokens tokens of \"$model\" are $want nano-USD");
}

# two clients at once

parallel(2, sub {
    my ($me) = @_;

    settle('nano', 1, "p$me-$_") for 1 .. 50;
});

{
    my $before = 30 + 1 + 1 + 2 + 1 + 1 + 2;

    ok(wait_for(sub { spent(ledger()) == $before + 100 }),
       'T53: a hundred from two clients are a hundred')
        or diag(spent(ledger()));
}

# up to the last one of nine million dollars

my $left = 9_000_000 * 1_000_000_000 - spent(ledger());
my $dollars = int($left / 1_000_000_000);
my $nanos = $left % 1_000_000_000;

is($dollars, 8_999_999,
   'T53: there are nine million dollars, less a few nano-USD');
is(settle('gold', $dollars, 'rich', '/big'), 200, '... of which the dollars');
is(settle('nano', $nanos - 2, 'rich', '/big'), 200, '... and the rest');
is(settle('nano', 1, 'rich', '/big'), 200, '... but for two nano-USD');
is(settle('nano', 1, 'rich', '/big'), 200, '... are spent one by one');
is(settle('nano', 1, 'rich', '/big'), 429, '... and not one more');
is(spent(ledger()), 9_000_000 * 1_000_000_000, 'T53: that is nine million');
balanced('the books agree at nine million dollars');

$nginx->stop();
unlink($file);
done_testing();


# One call of so many tokens; its status, once it is charged.

sub settle
{
    my ($model, $tokens, $who, $place) = @_;

    my $answer = post_json(($place // '') . '/v1/chat/completions',
        { model => $model, max_tokens => 1,
          messages => [{ role => 'user', content => 'a' }] },
        headers => { 'X-Who' => $who }, standin => "prompt=$tokens; out=1");

    wait_for(sub { ((ledger() // {})->{stat}{pending} // 1) == 0 });

    return $answer->{status};
}


sub account
{
    my ($limit) = @_;

    return (grep { $_->{budget} eq $limit } @{ledger()->{accounts}})[0];
}
