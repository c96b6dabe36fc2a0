#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# What a ladder made of a call stays so when the call goes to another location
# after a failed upstream; what bounds a hold is never dropped (T31, T55).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More;

use LLMBudget;


need_module();

my $standin = start_standin();
my $dead = LLMBudget::free_port();

my $nginx = start_nginx(conf => llm_conf(limit => '', locations => <<"END"));
        location /plain/ {
            llm_budget on;
            llm_budget_limit all key=all usd=1000;
            llm_budget_degrade at=0% m-std=m-mini drop=reasoning_effort;
            error_page 502 = \@plain;
            proxy_pass http://127.0.0.1:$dead;
        }

        location \@plain {
            llm_budget on;
            proxy_pass http://standin;
        }

        location /other/ {
            llm_budget on;
            llm_budget_limit all key=all usd=1000;
            llm_budget_degrade at=0% m-std=m-mini drop=reasoning_effort;
            error_page 502 = \@other;
            proxy_pass http://127.0.0.1:$dead;
        }

        location \@other {
            llm_budget on;
            llm_budget_limit other key=all usd=1000;
            llm_budget_degrade at=0% m-mini=m-std drop=top_p;
            proxy_pass http://standin;
        }
END

for my $name ('plain', 'other') {
    my $answer = post_json("/$name/v1/chat/completions",
        { model => 'm-std', reasoning_effort => 'high', top_p => 1,
          messages => [{ role => 'user', content => 'abcd' }] },
        headers => { Authorization => 'Bearer k1' });

    my $sent = decode_json($standin->last_request()->{body});

    is($answer->{status}, 200, "$name: a call is served by another location");
    is($sent->{model}, 'm-mini', 'with the model it was degraded to');
    ok(!exists $sent->{reasoning_effort}, 'without what was dropped (T55)');
    is($sent->{top_p}, 1, 'with what was not');
    is($answer->{headers}{'x-llm-budget-degraded-from'}, 'm-std',
       'and the client is told');
}

is($standin->stats()->{requests}, 2, 'each was sent once');

balanced('and each is charged once (T31)');
$nginx->stop();


# a member that bounds what a call may cost is not for dropping

for my $name (qw(max_tokens max_completion_tokens max_output_tokens model
                 messages stream))
{
    my ($ok, $text) = check_conf(llm_conf(
        location => "llm_budget_degrade m-std=m-mini drop=top_p,$name;"));

    ok(!$ok, "drop=$name is refused");
    like($text, qr/llm_budget: "\Q$name\E" cannot be dropped/, 'by its name');
}

for my $case (['9000000', 1], ['8999999.999999999', 1],
              ['9000000.000000001', 0], ['10000000', 0])
{
    my ($amount, $want) = @$case;
    my ($ok, $text) = check_conf(llm_conf(limit => "all usd=$amount"));

    is($ok ? 1 : 0, $want, "a limit of $amount dollars is "
       . ($want ? 'taken' : 'refused') . ' (T53)');
}

done_testing();
