#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# Redis dies, hangs, forgets its scripts and is followed by a replica, all
# under load: then the ledger still has each call that was served, once (T23,
# T24, T25); and two nginx share one Redis without one call too many (T01).
# LLMB_SOAK=SECONDS of each.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Time::HiRes ();

use LLMBudget;
use LLMBudgetLoad;
use LLMBudgetRedis;


need_module();
need_redis();

my $standin = start_standin();


# ------------------------------ it is killed, and has it all on disk

{
    my $redis = start_redis(appendonly => 1);
    my $nginx = start_nginx(workers => 2, conf => load_conf(
        redis => $redis->url() . ' timeout=200ms'));
    my $load = start_load(n => 6, call => \&client);
    my $died = 0;

    every(soak(4), 1, sub {
        $redis->kill9();
        sleep_ms(50 + rand(300));
        $redis->start_again();
        $died++;
    });

    my $got = $load->stop();

    cmp_ok($died, '>', 2, 'Redis is killed and started again');
    books('... and nothing is lost or doubled (T24)', $got);
    cmp_ok($got->{refused}, '>', 0, '... some calls were refused');
    is(outages(), 'allow deny', '... and some let in');


    # ---------------------------------------- it hangs for a while

    fresh_books($standin, $redis, $nginx);
    $load = start_load(n => 6, call => \&client);

    every(soak(3), 0.8, sub {
        $redis->pause();
        sleep_ms(300 + rand(300));
        $redis->resume();
    });

    $got = $load->stop();

    # what it gets to see when it is back, it does: after its reply was
    # waited for, and after it was replaced

    books('Redis hangs, and nothing is lost or doubled (T23, T24)', $got);
    cmp_ok($got->{refused}, '>', 0, '... some calls were refused');

    unlike($nginx->log_text(), qr/\[crit\]|is lost|cannot have made/,
           '... and the log knows of no loss');
    $nginx->stop();
    $redis->stop();
}


# ------------------------------------------- it forgets its scripts

# With the time that a busy machine needs, no call is refused: an unknown
# script is not an outage.

{
    my $redis = start_redis();
    my $nginx = start_nginx(workers => 2, conf => load_conf(
        redis => $redis->url() . ' timeout=5s'));

    fresh_books($standin, undef, $nginx);

    my $load = start_load(n => 6, call => \&client);
    my $flushed = 0;

    every(soak(2), 0.01, sub {
        $redis->cli('SCRIPT', 'FLUSH');
        $flushed++;
    });

    my ($after) = $redis->cli('INFO', 'errorstats')
                  =~ /errorstat_NOSCRIPT:count=(\d+)/;
    my $got = $load->stop();

    cmp_ok($flushed, '>', 50, 'Redis forgets its scripts all the time');
    cmp_ok($after // 0, '>', 10, '... which shows');
    is($got->{refused}, 0, '... and no call is refused (T25)');
    is(outages(), '', '... nor let in unmetered');
    books('... and the books agree', $got);
    $nginx->stop();
    $redis->stop();
}


# ------------------------------------------------ another is master

# The old master dies with nothing that its replica has not got: replication
# is asynchronous, so its writes are stopped and the replica is waited for.
# What it would have acknowledged after that, nobody has heard of.

{
    my $old = start_redis();
    my $new = start_redis(replica_of => $old);
    my $sentinels = start_sentinels(master => $old, down_after => 500,
                                    failover_timeout => 2000);
    my $nginx = start_nginx(workers => 2, conf => load_conf(
        redis => join(' ', $sentinels->urls(), 'sentinel=m timeout=200ms')));

    fresh_books($standin, undef, $nginx);

    my $load = start_load(n => 6, pause => 20, call => \&client);

    ok(wait_for(sub { (ledger() // {})->{stat}{posted} }),
       'calls are served by the first master');
    sleep_ms(500);
    $old->cli('CLIENT', 'PAUSE', 60_000, 'WRITE');
    ok(wait_for(sub { offset($old) == offset($new) }),
       '... whose replica is in step');
    $old->kill9();

    my $dead = 0 + wait_for(sub {
        return $sentinels->agree_on($new, wait => 0)
            && $new->cli('ROLE')->[0] eq 'master';
    }, 30);

    is($dead, 1, 'it dies, and the Sentinels have another');

    my $posted = $new->cli('HGET', 'llmb{-}:meta', 'posted');

    ok(wait_for(sub {
        return $new->cli('HGET', 'llmb{-}:meta', 'posted') > $posted + 20;
    }, 20), '... which serves the clients');
    my $got = $load->stop();

    cmp_ok($got->{refused}, '>', 0, '... after some were refused');
    books('... and nothing is lost or doubled', $got, wait => 20);
    is(outages(), 'allow deny', '... also of the calls let in');
    unlike($nginx->log_text(), qr/\[crit\]|is lost|cannot have made/,
           '... and the log knows of no loss');
    $nginx->stop();
    $_->stop() for $sentinels, $new;
}


# ------------------------------------------- two nginx, one ledger

{
    my $redis = start_redis();
    my $conf = llm_conf(
        redis => $redis->url() . ' timeout=10s connect_timeout=10s',
        server => '        llm_budget_clamp off;', limit => '',
        locations => <<'END');
        location /ten/ {
            llm_budget on;
            llm_budget_key $http_x_key;
            llm_budget_limit ten usd=$http_x_limit per=month;
            llm_budget_limit all key=all usd=1000;
            proxy_pass http://standin;
        }
END
    my @nginx = map { start_nginx(workers => 2, conf => $conf) } 1, 2;

    fresh_books($standin, undef, @nginx);

    my $first = ten($nginx[0], 'first', 1000);

    is($first->{status}, 200, 'a call is served');

    my $hold;

    wait_for(sub {
        ($hold) = (read_file("$nginx[0]{dir}/usage.log") // '')
                  =~ /"hold_nusd":(\d+)/;
    });
    cmp_ok($hold, '>', 0, "... and held $hold nano-USD");

    my $room = 10 * $hold + $hold - 1;
    my $limit = sprintf('%d.%09d', int($room / 1e9), $room % 1e9);
    my $made = 1;

    for my $round (1 .. 3) {
        my @answers = parallel(50, sub {
            my ($i) = @_;

            my $answer = ten($nginx[$i % 2], "round-$round", $limit, $hold);

            return { status => $answer->{status} };
        });

        $made += 50;

        is(grep({ $_->{status} == 200 } @answers), 10,
           'of 50 calls at once by two nginx 10 are admitted, of room for 10'
           . " ($round)");
        is(grep({ $_->{status} == 429 } @answers), 40,
           '... and 40 are refused');
    }

    my $got = idle(nginx => \@nginx, lines => $made);
    my @other = map {
        local $LLMBudget::NGINX = $_;
        ledger();
    } @nginx;

    is($got->{lines}, $made, 'every request has its usage line');
    is($got->{ledger}{stat}{pending}, 0, 'no hold is pending');
    is(spent($got->{ledger}, 'all'), $got->{billed},
       'the ledger is what was billed');
    is($got->{log}, $got->{billed}, 'the usage logs are what was billed');
    is(spent($_, 'all'), $got->{billed}, '... and each nginx says so')
        for @other;
    is($got->{ledger}{stat}{posted}, 31, 'each was posted once');
    is($got->{ledger}{stat}{opened}, 31, '... of those that were opened');

    again($redis, $nginx[0], $limit);
    $_->stop() for @nginx;
    $redis->stop();
}

done_testing();


# A call that costs what it held, when that is known.

sub ten
{
    my ($nginx, $key, $limit, $hold) = @_;

    my $prompt = defined $hold ? ($hold - 100 * 10000) / 2500 : 1;

    return post_json('/ten/v1/chat/completions', {
        model => 'm-std', max_tokens => 100,
        messages => [{ role => 'user', content => 'abcd' x 10 }] },
        port => $nginx->{port}, headers => { 'X-Key' => $key,
                                             'X-Limit' => $limit },
        standin => "out=100; prompt=$prompt; delay=200");
}


# What one call told Redis is told again, word by word: open, post, and a void
# of the same id change nothing any more (T23).

sub again
{
    my ($redis, $nginx, $limit) = @_;

    my $monitor = $redis->connect();
    my @commands;

    is($monitor->ask('MONITOR'), 'OK', 'a call is listened to');
    is(ten($nginx, 'again', $limit)->{status}, 200, '... and served');

    wait_for(sub {
        my $line = $monitor->read();

        push @commands, [map { s/\\(.)/$1/gr } $line =~ /"((?:[^"\\]|\\.)*)"/g]
            if $line =~ /"EVALSHA"/;

        return @commands == 2;
    });

    is(scalar(@commands), 2, '... by two commands');

    my $before = ledger_dump($redis, 'llmb', '-');
    my ($open, $post) = @commands;
    my $id = $open->[8];

    like($id, qr/^\w{32}$/, '... of one hold');
    is($post->[8], $id, '... which both name');

    my @open = map { join(' ', @{$redis->cli(@$open)}[0, 2]) } 1 .. 3;
    my @post = map { join(' ', @{$redis->cli(@$post)}[0, 2]) } 1 .. 3;
    my ($void) = script_match('void');
    my $late = $redis->cli('EVALSHA', $void, @$open[2 .. 8], 3_600_000);

    is("@open[0, 1, 2]", 'closed 1 closed 1 closed 1',
       'an open that comes again opens nothing');
    is("@post[0, 1, 2]", 'ok 1 ok 1 ok 1',
       'a post that comes again is answered as the first was');
    is(join(' ', @$late[0, 2]), 'closed 1', 'a void comes too late');
    is_deeply(ledger_dump($redis, 'llmb', '-'), $before,
              '... and nothing has changed (T23)');
}


# Six clients, four of which are refused in an outage.

sub client
{
    my ($me, $i) = @_;

    return one_call("k$me", $i, path => $me < 4 ? '/v1/' : '/allow/',
                    limit => 10 * (1 + $me));
}


# So often within that time, and then as long as it takes.

sub every
{
    my ($seconds, $step, $sub) = @_;

    my $start = Time::HiRes::time();
    my $next = $start + $step;

    while ($next <= $start + $seconds) {
        my $left = $next - Time::HiRes::time();

        Time::HiRes::sleep($left) if $left > 0;
        $sub->();
        $next += $step;
    }
}


# What the usage lines say of outages.

sub outages
{
    my $text = read_file("$LLMBudget::NGINX->{dir}/usage.log") // '';
    my %seen;

    $seen{$1}++ while $text =~ /"outage":"(\w+)"/g;

    return join(' ', sort keys %seen);
}


# How much a server has written, or heard of its master.

sub offset
{
    my ($redis) = @_;

    my $info = $redis->cli('INFO', 'replication');
    my ($name) = $info =~ /^role:master/m ? 'master_repl_offset'
                                          : 'slave_repl_offset';

    return $info =~ /^$name:(\d+)/m ? $1 : -1;
}
