#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# Faults between nginx and Redis under load: whatever is lost, late, cut or
# garbage, afterwards the ledger has each call that was served, once, and no
# hold is left, where calls are refused in an outage and where they are let in
# (T23, T24, T52).  LLMB_SOAK=SECONDS for each fault; LLMB_SEED=N: of the
# random ones.


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

my $seed = $ENV{LLMB_SEED} // $$;
my $seconds = soak(0.7);

diag("seed: LLMB_SEED=$seed");

my $standin = start_standin();
my $redis = start_redis();
my $proxy = start_faults($redis);

my $nginx = start_nginx(workers => 2, conf => load_conf(
    redis => $proxy->url() . ' timeout=200ms connections=2'));

my %match = map { $_ => [script_match($_)] } qw(open post void extend);


# --------------------------------------------------- one kind at a time

for my $case (
    ['no fault', 'pass'],
    ['the reply to an open is lost', of('open', 'drop_reply')],
    ['the reply to a post is lost', of('post', 'drop_reply')],
    ['the reply to a void is lost', of('void', 'drop_reply')],
    ['an open comes too late', of('open', 'delay', 260)],
    ['a post comes too late', of('post', 'delay', 260)],
    ['a reply comes too late', any('delay_reply', 260)],
    ['a reply ends in the middle, by a reset', any('reset_mid_reply')],
    ['a reply ends in the middle', any('truncate')],
    ['the connection ends before a command', any('reset')],
    ['a connection stalls', any('stall')],
    ['a reply is garbage', any('garbage')],
    ['replies come byte by byte', 'split 0'],
    ['anything, at random', any(join(',', qw(drop_reply reset stall garbage
        delay delay_reply reset_mid_reply truncate split reply)), 150)])
{
    my ($title, @rules) = @$case;

    fresh_books($standin, $redis, $nginx);
    $proxy->tell('clear');
    $proxy->set($_) for @rules;

    my $load = start_load(n => 6, call => \&client);

    faulty($seconds, $rules[0] eq 'pass' || $rules[0] =~ /^split/ ? 0 : 3);

    my $faults = $proxy->stats()->{faults};

    $proxy->set('pass');

    my $got = $load->stop();

    books($title, $got);

    if ($rules[0] eq 'pass' || $rules[0] =~ /^split/) {
        is($got->{refused}, 0, '... and no call was refused');

    } else {
        cmp_ok(sum(values %$faults), '>', 0, '... after some of it');
    }
}


# --------------------------------------- whose answer it is (T52)

# Each worker has one connection, and keys with room wait there beside keys
# without: an answer that shifted would let in a call of these, or deny one of
# those, or tell what another key has left.

{
    reloaded(redis => $proxy->url() . ' timeout=100ms connections=1');

    fresh_books($standin, $redis, $nginx);
    $proxy->tell('clear');

    # nothing is shifted by chance only: late replies in front of many more

    $proxy->set($_) for random('delay_reply', '', 0.01, 130);

    my $load = start_load(n => 8, pause => 0, call => sub {
        my ($me, $i) = @_;

        return one_call("k$me", $i, kinds => ['plain'], prompt => 1 + $me,
                        limit => $me % 4 == 3 ? '0.000001' : 10 * (1 + $me));
    });

    faulty(2 * $seconds, 3);
    cmp_ok(sum(values %{$proxy->stats()->{faults}}), '>', 0,
           'replies came when nobody waited any more');
    $proxy->set('pass');

    my $got = $load->stop();

    cmp_ok($got->{denied}, '>', 0, '... calls without room were denied');
    cmp_ok($got->{refused}, '>', 0, '... and some were refused');
    books('every key has had its own answers (T52)', $got);
}


# ------------------------------------------------ clients that leave

# They leave while the open of their hold is under way: nobody but the store
# can close it.

{
    reloaded(redis => $proxy->url() . ' timeout=400ms connections=2');

    for my $case (['it is answered late', of('open', 'delay_reply', 80, 1)],
                  ['it comes too late', of('open', 'delay', 450, 1)],
                  ['its answer is lost', of('open', 'delay_reply', 450, 1)])
    {
        my ($title, @rules) = @$case;

        fresh_books($standin, $redis, $nginx);
        $proxy->set($_) for @rules;

        parallel(20, sub {
            post_json('/v1/chat/completions', {
                model => 'm-std', max_tokens => 30,
                messages => [{ role => 'user', content => 'abcd' }] },
                headers => { Authorization => 'Bearer k', 'X-Key' => 'k',
                             'X-Limit' => 100 },
                abort_after => 10, rst => 1);
        });

        $proxy->set('pass');
        balanced("a client leaves before its hold is open, and $title",
                 wait => 15);

        my $stat = ledger()->{stat};

        is($stat->{opened}, $stat->{voided} + $stat->{posted},
           '... and each hold is closed, once');
        is($stat->{expired}, 0, '... and none by expiry');
    }
}


# ------------------------------------ a stream's hold is kept, though

# An extension that is lost must not be the last before the deadline.

{
    reloaded(redis => $proxy->url() . ' timeout=200ms',
             more => "            llm_budget_hold_timeout 2s;\n");

    for my $case (['is lost', 'reset'], ['is done, but not heard of',
                                         'drop_reply'])
    {
        my ($title, $mode) = @$case;

        fresh_books($standin, $redis, $nginx);
        $proxy->tell('clear');

        # each worker's first one, if both have streams

        $proxy->set("$mode 1 match=$match{extend}[0]");
        $proxy->set("+$mode 1 match=$match{extend}[1]");

        my @results = parallel(3, sub {
            my ($i) = @_;

            if ($i == 2) {

                # whoever reads the ledger closes what is overdue

                my $seen = 0;

                wait_for(sub {
                    my $ledger = ledger() // return 0;
                    my $pending = $ledger->{stat}{pending};

                    $seen ||= $pending;

                    return $seen && !$pending;
                }, 10);

                return { status => 0 };
            }

            my $answer = post_json('/v1/chat/completions', {
                model => 'm-std', max_tokens => 100, stream => \1,
                messages => [{ role => 'user', content => 'abcd' }] },
                headers => { Authorization => 'Bearer k', 'X-Key' => 'k',
                             'X-Limit' => 100 },
                standin => 'out=34; gap=100');

            return { status => $answer->{status} };
        });

        is(join(' ', map { $_->{status} } @results), '200 200 0',
           "an extension $title: the streams are served");
        is($proxy->stats()->{faults}{$mode}, 1, '... and there was one');
        $proxy->set('pass');
        balanced('... and their holds are kept', wait => 15);
        is(ledger()->{stat}{expired}, 0, '... and none has expired');
    }
}


unlike($nginx->log_text(), qr/\[crit\]|is lost|cannot have made/,
       'nothing was lost, and every answer was a script\'s');

$nginx->stop();
$_->stop() for $proxy, $redis;
done_testing();


# Six clients, four of which are refused in an outage.

sub client
{
    my ($me, $i) = @_;

    return one_call("k$me", $i, path => $me < 4 ? '/v1/' : '/allow/',
                    limit => 10 * (1 + $me));
}


# Workers with another configuration, and no others.

sub reloaded
{
    $nginx->reload(load_conf(@_));
    wait_for(sub { $nginx->workers() == 2 }, 15)
        or die "the workers of the old configuration stay\n";
}


# So long, and until there were some faults.

sub faulty
{
    my ($wait, $n) = @_;

    my $end = Time::HiRes::time() + $wait;

    wait_for(sub {
        return Time::HiRes::time() >= $end
            && ($n == 0 || sum(values %{$proxy->stats()->{faults}}) >= $n);
    }, $wait + 10);
}


# The rules of a fault of one script's commands, and of any.

sub of
{
    my ($name, $kinds, $ms, $p) = @_;

    return random($kinds, "match=$match{$name}[0]", $p // 0.2, $ms),
        '+' . random($kinds, "match=$match{$name}[1]", $p // 0.2, $ms);
}


sub any
{
    my ($kinds, $ms) = @_;

    return random($kinds, '', 0.04, $ms);
}


sub random
{
    my ($kinds, $match, $p, $ms) = @_;

    return "random seed=$seed p=$p kinds=$kinds $match"
        . ($ms ? " ms=$ms" : '');
}


sub sum
{
    return LLMBudgetLoad::sum(@_);
}
