#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# No number of calls at once gets past a limit: check and hold are one step,
# over every account of a call, in every worker (T01, T22).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use LLMBudget;


need_module();

my $standin = start_standin();

my $body = { model => 'm-std', max_tokens => 100,
             messages => [{ role => 'user', content => 'abcd' x 10 }] };

my $nginx = start_nginx(workers => 4, conf => llm_conf(
    limit => '', server => '        llm_budget_clamp off;',
    locations => <<'END'));
        location /probe/ {
            llm_budget on;
            llm_budget_limit probe key=all usd=1000;
            proxy_pass http://standin;
        }

        location /one/ {
            llm_budget on;
            llm_budget_limit one key=all usd=$http_x_limit;
            proxy_pass http://standin;
        }

        location /new/ {
            llm_budget on;
            llm_budget_key $http_authorization;
            llm_budget_limit new usd=$http_x_limit per=month;
            proxy_pass http://standin;
        }

        location /two/ {
            llm_budget on;
            llm_budget_limit key key=$http_authorization usd=$http_x_limit;
            llm_budget_limit team key=$http_x_team requests=6;
            proxy_pass http://standin;
        }

        location /order/ {
            llm_budget on;
            llm_budget_limit fine key=$http_x_team usd=100;
            llm_budget_limit tight key=$http_x_team usd=0.000001;
            proxy_pass http://standin;
        }
END

my $auth = { Authorization => 'Bearer k1' };
my $answer = post_json('/probe/v1/chat/completions', $body,
                       headers => $auth, standin => 'out=100');
my $hold = (wait_for(sub { (usage_lines())[-1] }))->{hold_nusd};

is($answer->{status}, 200, 'a call is served');
ok($hold > 0, "and held $hold nano-USD");

# room for exactly ten; a call costs what it held, so that it makes no
# difference when the first ones end

my $limit = usd(10 * $hold + $hold - 1);
my $prompt = ($hold - 100 * 10000) / 2500;


for my $case (['/one/', 'all', 'one'], ['/new/', 'never-seen', 'new']) {
    my ($path, $key, $name) = @$case;

    my @answers = fifty($path, { Authorization => "Bearer $key",
                                 'X-Limit' => $limit });

    is(grep({ $_->{status} == 200 } @answers), 10,
       "of 50 calls at once over 4 workers 10 are admitted: $name (T01)");
    is(grep({ $_->{status} == 429 } @answers), 40, 'and 40 are refused');
    is(peak(\@answers, $name), 10 * $hold,
       'what is spent and held never passes the room of ten calls');
    is(waiting(\@answers), 0, 'no refusal came without its code');
}


{
    my @answers = fifty('/two/', { Authorization => 'Bearer k2',
                                   'X-Limit' => $limit, 'X-Team' => 't1' });

    is(grep({ $_->{status} == 200 } @answers), 6,
       'with room for 10 by key and 6 by team 6 are admitted (T22)');
    is(grep({ $_->{status} == 429 && $_->{scope} eq 'team' } @answers), 44,
       'and the team refuses all others');

    my $ledger = settled();

    is(spent($ledger, 'team', 'requests'), 6, 'the team is charged 6 calls');
    is(spent($ledger, 'key'), 6 * $hold, 'and so is the key');
}


{
    my $refused = post_json('/order/v1/chat/completions', $body,
                            headers => { %$auth, 'X-Team' => 't9' });
    my $ledger = settled();
    my ($fine) = grep { $_->{budget} eq 'fine' } @{$ledger->{accounts}};

    is($refused->{status}, 429, 'the second of two limits refuses');
    is(($fine->{held} // 0) + ($fine->{spent} // 0), 0,
       'and the first, which had room, holds nothing (T22)');
}


# each location has its own limit: compare the sum of all of them

my $got = balances();

is($got->{pending}, 0, 'no hold is pending');
is($got->{held}, 0, 'no account holds anything');
is(sum(map { spent($got->{ledger}, $_) } qw(probe one new key)),
   $got->{billed}, 'the ledger is what was billed');
is($got->{log}, $got->{billed}, 'the usage log is what was billed');

$nginx->stop();
done_testing();


# Fifty calls at once; each process looks at the ledger when it has its
# answer.

sub fifty
{
    my ($path, $headers) = @_;

    return parallel(50, sub {
        my $call = post_json("${path}v1/chat/completions", $body,
                             headers => $headers,
                             standin => "out=100; prompt=$prompt; delay=300");
        my $ledger = ledger() // { accounts => [] };

        return { status => $call->{status},
                 scope => $call->{body} =~ /"scope":"(\w+)"/ ? $1 : '',
                 code => $call->{headers}{'x-llm-budget-code'} // '',
                 used => { map { $_->{budget} => $_->{spent} + $_->{held} }
                           grep { $_->{unit} eq 'usd' }
                           @{$ledger->{accounts}} } };
    });
}


# The greatest spent + held that any of the processes saw.

sub peak
{
    my ($answers, $name) = @_;

    my $peak = 0;

    for my $answer (@$answers) {
        my $used = $answer->{used}{$name} // 0;

        $peak = $used if $used > $peak;
    }

    return $peak;
}


sub waiting
{
    return scalar grep {
        $_->{status} != 200
        && $_->{code} !~ /^budget_(?:exceeded|hold_contention)$/
    } @{$_[0]};
}


sub settled
{
    my $ledger;

    wait_for(sub {
        $ledger = ledger();
        return $ledger && $ledger->{stat}{pending} == 0;
    });

    return $ledger;
}


sub usd
{
    my ($nusd) = @_;

    return sprintf('%d.%09d', int($nusd / 1e9), $nusd % 1e9);
}


sub sum
{
    my $sum = 0;

    $sum += $_ for @_;

    return $sum;
}
