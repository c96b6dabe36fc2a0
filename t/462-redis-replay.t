#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# What a journal remembers of its lines: a replay that may have been heard is
# never charged twice, however long Redis is away, and what cannot be told to
# one server of a cluster does not stand before what another one can be told.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use LLMBudget;
use LLMBudgetLoad qw(script_match);
use LLMBudgetRedis;

need_module();
need_redis();

my $standin = start_standin();
my $chat = { model => 'm-std', max_tokens => 100,
             messages => [{ role => 'user', content => 'abcd' }] };


sub call
{
    my (%headers) = @_;

    return post_json('/v1/chat/completions', $chat, standin => 'out=9',
                     headers => { Authorization => 'Bearer k', %headers });
}


sub outage
{
    return $_[0]->{headers}{'x-llm-budget-outage'} // '';
}


sub lines_left
{
    my ($nginx) = @_;

    return scalar(grep { !/^t/ }
                  map { split(/\n/, read_file($_) // '') }
                  glob("$nginx->{dir}/journal/journal.*"));
}


# --------------------------------------- told once, not heard, and forgotten

{
    my $redis = start_redis();
    my $proxy = start_faults($redis);
    my $nginx = start_nginx(conf => llm_conf(
        redis => $proxy->url() . ' timeout=2s keep=2s', outage => 'allow'));

    ok(wait_for(sub { my $a = call(); $a->{status} == 200 && !outage($a) }),
       'a call is served');

    # its cost was told, too

    wait_for(sub { ledger()->{stat}{pending} == 0
                   && lines_left($nginx) == 0 });

    $proxy->set('refuse');
    is(outage(call()), 'allow', 'Redis goes, and a call is let in');

    my $posted = sub { $redis->cli('HGET', 'llmb{-}:meta', 'posted') // 0 };
    my $before = $posted->();

    ok(wait_for(sub { lines_left($nginx) == 1 }),
       'its cost is in the journal');

    $proxy->set('drop_reply n=1000 match=legs');
    ok(wait_for(sub { $posted->() > $before }, 10),
       'Redis is told, and its answer is lost');
    $proxy->set('refuse');

    # whoever comes next has it forget what is over

    my @walk = ('EVALSHA', (script_match('walk'))[0], 5,
                (map { "llmb{-}:$_" } qw(accounts holds due closed meta)),
                '2000 1', '0');

    ok(wait_for(sub {
        $redis->cli(@walk);
        return $redis->cli('HKEYS', 'llmb{-}:holds')->[0] eq '!'
               && $redis->cli('HLEN', 'llmb{-}:holds') == 1;
    }, 10), 'it does not remember them any more');

    $proxy->set('pass');
    ok(wait_for(sub { lines_left($nginx) == 0 }, 15), 'all is told again');
    balanced('and charged once (T23)');

    $nginx->stop();
}


# ------------------------------------------------ some servers of a cluster

{
    $standin->reset();
    $LLMBudget::MADE = 0;

    my $cluster = start_cluster(nodes => 3, node_timeout => 1000,
        conf => ['cluster-require-full-coverage no']);
    my $nginx = start_nginx(conf => llm_conf(
        redis => join(' ', $cluster->urls(), 'cluster timeout=2s'),
        limit => 'all key=$http_x_tag usd=1000 per=lifetime',
        tag => '$http_x_tag', outage => 'allow'));

    my (%seen, @at);

    for my $tag ('a' .. 'z') {
        my $node = $cluster->node_of("llmb{$tag}:meta");

        push @at, [$tag, $node] unless $seen{$node->port()}++;
    }

    my ($away, $back) = @at;
    my $posted = sub {
        $_[0][1]->cli('HGET', "llmb{$_[0][0]}:meta", 'posted') // 0
    };

    for my $place ($away, $back) {
        ok(wait_for(sub { !outage(call('X-Tag' => $place->[0])) }, 10),
           'a tag has a server');
    }

    $_->[1]->pause() for $away, $back;

    # the line of the one that stays away comes first

    is(outage(call('X-Tag' => $_->[0])), 'allow', 'two servers hang')
        for $away, $back;
    ok(wait_for(sub { lines_left($nginx) >= 2 }), 'there are lines for both');

    $back->[1]->resume();

    ok(wait_for(sub { !outage(call('X-Tag' => $back->[0])) }, 10),
       'one is back');
    ok(wait_for(sub { lines_left($nginx) == 1 }, 20),
       'and is told what is for it');

    $away->[1]->resume();
    ok(wait_for(sub { lines_left($nginx) == 0 }, 20),
       'the other is told when it is back');

    my %cost;

    $cost{$_->{cost_nusd}}++ for grep { $_->{status} == 200 } usage_lines();

    my ($cost) = keys %cost;
    my $calls = grep { $_->{status} == 200 } usage_lines();

    is(scalar(keys %cost), 1, 'all calls cost the same');
    ok(wait_for(sub { $posted->($away) + $posted->($back) == $calls }),
       'each was posted once');

    $nginx->stop();
}


done_testing();
