#!/usr/bin/perl

# Copyright (C) the ngx_http_llm_budget_module authors
#
# Regressions of reviews: discounts that a client names itself, loops of
# failures, thinking budgets under a rung, who decided, and whose error page
# it is.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use LLMBudget;

need_module();

my $standin = start_standin();

my $location = sub {
    my ($name, $text, $pass) = @_;

    return <<"END";
        location /$name/ {
            llm_budget on;
            llm_budget_key \$http_authorization;
            $text
            proxy_pass ${\($pass // 'http://standin/')};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
END
};

my $all = 'llm_budget_limit all key=all usd=1000 per=lifetime;';

my $nginx = start_nginx(conf => llm_conf(locations => join('',
    $location->('plain', $all),
    $location->('loop', "$all llm_budget_limit loop key=\$http_authorization"
                        . ' requests=2 per=year;'),
    $location->('low', "$all llm_budget_limit low key=x usd=\$http_x_limit"
                       . ' per=lifetime; llm_budget_degrade at=0% of=low'
                       . ' m-std=m-mini;'),
    $location->('tight', "$all llm_budget_limit tight key=x"
                         . ' usd=$http_x_limit per=lifetime;'),
    $location->('think', "$all llm_budget_degrade at=0% c-std=m-tier"
                         . ' max_output=500;'),
    $location->('prompt', "$all llm_budget_unknown_model price_as=m-std;"
                          . ' llm_budget_degrade at=0% *=m-mini;'),
    $location->('dead', $all, 'http://127.0.0.1:%%PORT1%%/'),
    $location->('own', "$all error_page 502 \@own;",
                'http://127.0.0.1:%%PORT1%%/'),
    <<'END')));
        location @own {
            llm_budget on;
            return 502 "the operator's own page\n";
        }
END

my $messages = [ { role => 'user', content => 'abcd' } ];

sub call
{
    my ($name, $body, %opt) = @_;
    my $path = $opt{path} // '/v1/chat/completions';
    my $answer = post_json("/$name$path",
        { model => 'm-std', messages => $messages, %{$body // {}} },
        headers => { Authorization => 'Bearer k1', %{$opt{headers} // {}} },
        standin => $opt{standin});

    $answer->{line} = wait_for(sub {
        my @lines = usage_lines();
        return @lines >= $LLMBudget::MADE && $lines[-1];
    });

    return $answer;
}

sub sent
{
    return JSON::PP::decode_json($standin->last_request()->{body});
}


# 100 tokens in and 20 out cost 450000 by default, half of it by "flex"

# "batch" has no price there, and costs the dearest that is known

for my $case ([ flex => 450_000 ], [ batch => 765_000 ]) {
    my ($tier, $cost) = @$case;
    my $answer = call('plain', { model => 'm-tier', service_tier => $tier },
                      standin => 'prompt=100; out=20; tier=none');

    is($answer->{line}{cost_nusd}, $cost,
       "T17: \"$tier\" is no discount unless the answer says that it served");
}

is(call('plain', { model => 'm-tier', service_tier => 'flex' },
        standin => 'prompt=100; out=20; tier=flex')->{line}{cost_nusd},
   225_000, '... and is one if it does');


is(call('loop', {}, standin => 'status=500')->{status}, 500,
   'a failing call passes') for 1 .. 2;

{
    my $answer = call('loop', {}, standin => 'status=500');

    is($answer->{status}, 429, 'a loop of failing calls is a loop');
    is($answer->{line}{limit}, 'loop', 'and the line says which limit');
}


{
    my $answer = call('low', { max_tokens => 10 },
                      headers => { 'X-Limit' => 1 });

    is($answer->{line}{verdict}, 'degrade', 'a call is degraded');
    is($answer->{line}{limit}, 'low', 'by the limit that the line names');

    $answer = call('tight', { max_tokens => 1000 },
                   headers => { 'X-Limit' => '0.001' });

    is($answer->{line}{verdict}, 'warn', 'a call is clamped');
    is($answer->{line}{limit}, 'tight', 'by the limit that the line names');

    $answer = call('tight', { max_tokens => 10 },
                   headers => { 'X-Limit' => 1 });

    ok(!exists $answer->{line}{limit}, 'nothing decided what was let in');
}


{
    my $answer = call('think', { model => 'c-std', max_tokens => 16000,
                                 thinking => { type => 'enabled',
                                               budget_tokens => 8000 } },
                      path => '/v1/messages');

    is($answer->{line}{verdict}, 'degrade', 'a call that thinks is degraded');
    is(sent()->{max_tokens}, 8001,
       'T55: but its ceiling stays above its thinking budget');
}


{
    my $answer = post_json('/prompt/v1/responses',
                           { prompt => { id => 'pmpt_1' }, input => 'abcd' },
                           headers => { Authorization => 'Bearer k1' });

    is($answer->{headers}{'x-llm-budget-verdict'}, 'allow',
       'a body that names no model has none to degrade');
}


{
    my $answer = call('dead');

    is($answer->{status}, 502, 'a provider that is gone is a 502');
    is($answer->{headers}{'x-llm-budget-code'}, 'upstream_unavailable',
       'T61: with its code');
    is($answer->{headers}{'x-llm-budget-id'}, $answer->{line}{id},
       'and the id of its usage line');

    $answer = call('own');

    is($answer->{body}, "the operator's own page\n",
       'a page of the operator\'s is left alone');
}

# the stand-in bills the tier that was asked for: only the books are compared

{
    my $ledger = wait_for(sub {
        my $ledger = ledger();
        return $ledger->{stat}{pending} == 0 && $ledger;
    });
    my $log = 0;

    $log += $_->{cost_nusd} for usage_lines();

    ok($ledger, 'nothing is pending');
    is(spent($ledger), $log, 'the ledger is what the usage log says');
}

$nginx->stop(allow => qr/Connection refused/);

done_testing();
