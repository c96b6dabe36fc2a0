#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# The journal: what Redis could not be told is told once it is back, each call
# once by its id, whatever has become of nginx meanwhile, and however often
# Redis goes away again (T23, T40).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use LLMBudget;
use LLMBudgetJournal;
use LLMBudgetRedis;


need_module();
need_redis();

my ($standin, $redis, $proxy, $nginx) = start_all();
my $dir = journal_dir();


# ------------------------------------------------ nginx ends, in every way

for my $case (
    ['a reload', sub { $nginx->reload() }],
    ['two reloads', sub { $nginx->reload(); served(); $nginx->reload() }],
    ['a worker is killed', \&kill_worker, killed => 1],
    ['nginx stops and starts', sub { $nginx->signal('QUIT') },
     then => sub { restart('QUIT') }],
    ['nginx is stopped at once and starts', sub { restart('TERM') },
     cut => 1],
    ['power is cut', sub { $nginx->kill_all(); $nginx->start_again() },
     killed => 1])
{
    my ($title, $end, %opt) = @$case;

    subtest("without Redis, $title", sub {
        fresh();

        my @streams = $opt{killed} ? ()
            : map { stream(wait => $opt{cut}) } 1 .. 3;

        wait_for(sub { (ledger()->{stat}{pending} // 0) == @streams });
        wait_for(sub { $standin->stats()->{in_flight} == @streams });
        refuse();
        served() for 1 .. 5;
        ok(wait_for(sub { usage_lines() >= 5 && lines_left() >= 5 }),
           'there is something in the journal');

        $end->();
        ended($_) for $opt{cut} ? () : @streams;
        $opt{then}->() if $opt{then};
        served() for 1 .. 2;
        $nginx->reload();
        served();
        no_faults();
        after(cut => $opt{cut} ? 3 : 0);
    });
}

# Redis is there, but the worker cannot wait for its answers.

subtest('with Redis, nginx is stopped at once', sub {
    fresh();

    my @streams = map { stream(wait => 1) } 1 .. 3;

    wait_for(sub { $standin->stats()->{in_flight} == 3 });
    restart('TERM');
    after(cut => 3);
});


# -------------------------------------------------------------- flapping

subtest('Redis flaps while many lines are told', sub {
    switch(size => '64m');
    fresh();
    refuse();

    my @counts = parallel(3, sub {
        return scalar(grep { call()->{status} == 200 } 1 .. 400);
    });

    is("@counts", '400 400 400', 'many calls are let in');
    ok(wait_for(sub { lines_left() == 1200 }), '... and in the journal');

    # each time some are done, of which some are not heard of

    for my $i (1 .. 6) {
        $proxy->tell('clear');
        $proxy->set($i % 2 ? 'drop_reply nth=20 match=EVALSHA'
                           : 'reset_mid_reply nth=40 match=EVALSHA');
        $proxy->set('+delay_reply 20 match=EVALSHA');
        wait_for(sub { ($proxy->stats()->{names}{EVALSHA} // 0) >= 50 });
        refuse() if $i % 3 == 0;
    }

    isnt(lines_left(), 0, 'they are not all told meanwhile');
    isnt(posted(), 0, '... but some');
    no_faults();
    after(wait => 15);
});


# ------------------------------------------------------------------ stale

# A charge was done, but its answer lost, and Redis has forgotten since.

subtest('a line is older than what Redis remembers', sub {
    switch(keep => '1s');
    fresh();

    my $seen = length($nginx->log_text());

    $proxy->set('drop_reply nth=2 match=EVALSHA');
    is(call()->{status}, 200, 'the answer to a charge is lost');
    ok(wait_for(sub { posted() == 1 && lines_left() == 1 }),
       '... but it was done');
    refuse();

    # of the server, which forgets when it is asked for something else

    wait_for(sub {
        $redis->cli('ZCOUNT', 'llmb{-}:closed', '-inf',
                    $redis->cli('TIME')->[0] * 1000 - 1000) >= 1;
    });

    my ($closed) = grep { length == 32 }
        @{$redis->cli('ZRANGE', 'llmb{-}:closed', 0, -1)};

    $redis->cli('HDEL', 'llmb{-}:holds', $closed);
    $redis->cli('ZREM', 'llmb{-}:closed', $closed);
    no_faults();
    after();
    is(posted(), 1, 'it was charged once');
    like(substr($nginx->log_text(), $seen),
         qr/may have got before: taken as charged: llmb1 post $closed /,
         '... and the log says what it was taken for');
});


# And younger ones are charged: it was not done, or Redis has lost it.

subtest('Redis has lost what it was told', sub {
    switch();
    fresh();
    $proxy->set('drop_reply nth=2 match=EVALSHA');
    is(call()->{status}, 200, 'the answer to a charge is lost');
    ok(wait_for(sub { posted() == 1 }), '... and it was done');
    refuse();
    $redis->cli('FLUSHALL');
    no_faults();
    after();
});


unlike($nginx->log_text(), qr/told twice/, 'no line was counted twice');
$nginx->stop();
is(join(' ', glob("$dir/*")), '', 'the folder is empty');
$_->stop() for $proxy, $redis;
done_testing();


sub kill_worker
{
    my ($pid) = $nginx->workers();

    kill('KILL', $pid);
    wait_for(sub { my @now = $nginx->workers(); @now && $now[0] != $pid });
}
