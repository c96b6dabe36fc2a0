#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# What a review of the Redis store found: a hold whose opening nobody heard of
# has one end (T23), is kept while its answer goes on (T02), and a request that
# went elsewhere while it waited stays there (T51).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use LLMBudget;
use LLMBudgetLoad;
use LLMBudgetRedis;


need_module();
need_redis();

my $standin = start_standin();
my $redis = start_redis();
my $proxy = start_faults($redis);

my %digest = map { $_ => (script_match($_))[0] } qw(open post);

my $chat = { model => 'm-std', max_tokens => 100,
             messages => [{ role => 'user', content => 'abcd' }] };


# The post of a call that was let in is late, on one of two connections: a void
# after it would overtake it, and nothing would be charged.

{
    my $nginx = begin('connections=2', outage => 'allow');

    $proxy->set("drop_reply n=1 match=$digest{open}");
    $proxy->set("+delay 500 match=$digest{post}");

    my $answer = call($chat, 'out=9; delay=800');

    is($answer->{status}, 200, 'allow: a call is let in');
    is($answer->{headers}{'x-llm-budget-outage'}, 'allow',
       'after its opening was done, but not heard of');

    wait_for(sub { meta('posted') == 2 || meta('voided') });
    $proxy->set('pass');

    is(meta('posted'), 2, 'its cost is charged (T23)');
    is(meta('voided'), 0, 'and nothing voids it');
    balanced('allow: the books agree');
    $nginx->stop();
}


# Held in the zone, and maybe in Redis: there, too, it is kept.

{
    my $nginx = begin('', outage => 'local',
        location => '            llm_budget_hold_timeout 1s;');

    $proxy->set("drop_reply n=1 match=$digest{open}");

    # the ledger's page sweeps

    my @got = parallel(2, sub {
        my ($i) = @_;

        return call({ %$chat, stream => \1 }, 'out=20; gap=150') if $i == 0;

        my $seen = 0;

        wait_for(sub {
            my $ledger = eval { ledger() } // return 0;

            $seen ||= $ledger->{stat}{pending};
            return $ledger->{stat}{expired}
                   || $seen && !$ledger->{stat}{pending};
        }, 10);

        return $seen;
    });

    is($got[0]{status}, 200, 'local: a long stream is let in');
    is($got[0]{headers}{'x-llm-budget-outage'}, 'local',
       'after its opening was done, but not heard of');
    ok($got[1], 'redis has its hold');
    is(meta('expired'), 0, 'which is kept beyond the timeout (T02)');
    balanced('local: the books agree');
    $nginx->stop();
}


# The client leaves while the store is asked, and post_action takes over.

{
    my $nginx = begin('', proxy => '            post_action @done;',
        locations => <<'END');
        location @done {
            rewrite ^ /v1/models break;
            proxy_method GET;
            proxy_pass http://127.0.0.1:%%STANDIN%%;
        }
END

    $proxy->set("delay_reply 700 match=$digest{open}");

    call($chat, 'delay=1500', abort_after => 200);

    ok(wait_for(sub { meta('opened') == 2 }), 'post_action: a hold was opened');
    ok(wait_for(sub { meta('voided') == 1 }),
       'for a client that had left: it is voided (T02)');
    $proxy->set('pass');

    balanced('post_action: the books agree');
    is(models(), 2, 'what is asked for afterwards is so once per call (T51)');
    $nginx->stop();
}


done_testing();


# An nginx with its Redis, emptied, and one call made.

sub begin
{
    my ($args, %opt) = @_;

    $proxy->set('pass');
    $redis->cli('FLUSHALL');
    $standin->reset();
    $LLMBudget::MADE = 0;

    my $nginx = start_nginx(conf => llm_conf(
        redis => $proxy->url() . " timeout=2s $args", %opt));

    is(call($chat, 'out=3')->{status}, 200, 'a call is served');
    ok(wait_for(sub { meta('posted') == 1 }), 'and charged');

    return $nginx;
}


sub call
{
    my ($body, $standin, %opt) = @_;

    return post_json('/v1/chat/completions', $body, %opt, standin => $standin,
                     headers => { Authorization => 'Bearer k1' });
}


sub meta
{
    my ($counter) = @_;

    return $redis->cli('HGET', 'llmb{-}:meta', $counter) // 0;
}


# What the stand-in was asked for by post_action.

sub models
{
    return scalar(grep { $_->{target} eq '/v1/models' }
                  $standin->requests());
}
