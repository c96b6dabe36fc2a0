#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# nginx reloads, and its workers die, under load and with the ledger in Redis:
# what was served is charged once, no worker stays longer than its streams, and
# what a dead worker held is closed by its deadline (T02, T40).
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
my $redis = start_redis();
my $proxy = start_faults($redis);


# ------------------------------------------- reloads, under streams

{
    my $nginx = start_nginx(workers => 2, conf => load_conf(
        redis => $proxy->url() . ' timeout=2s'));
    my $load = start_load(n => 8, call => sub { streaming(@_) });
    my %seen;
    my $late = 0;

    for (1 .. soak(5)) {
        my $next = Time::HiRes::time() + 1;
        my @old = $nginx->workers();

        $seen{$_} = 1 for @old;
        $nginx->signal('HUP');

        # while there are always streams: those of these workers end, and so
        # do they

        $late++ unless wait_for(sub {
            my %now = map { $_ => 1 } $nginx->workers();
            return keys %now >= 2 && !grep { $now{$_} } @old;
        }, 15);

        my $left = $next - Time::HiRes::time();

        Time::HiRes::sleep($left) if $left > 0;
    }

    is($late, 0, 'with each reload the workers end with their last streams');
    is(scalar(keys %seen), 2 * soak(5), '... all of them');

    my $got = $load->stop();

    is($got->{refused}, 0, '... and no call was refused');
    books('the streams were charged, each once (T40)', $got);
    ok(wait_for(sub { $nginx->workers() == 2 }, 15), '... by two workers');

    # and one stream alone, which outlives two generations

    fresh_books($standin, $redis, $nginx);

    my @results = parallel(2, sub {
        my ($i) = @_;

        if ($i == 1) {
            ok_when(sub { (ledger() // {})->{stat}{pending} });
            my %old = map { $_ => 1 } $nginx->workers();

            for (1 .. 2) {
                $nginx->signal('HUP');
                sleep_ms(500);
            }

            # not one worker but that of the stream stays

            return { stay => wait_for(sub {
                return 1 == grep { $old{$_} } $nginx->workers();
            }, 10) };
        }

        return one_call('k', 0, kinds => ['stream'], more => '; gap=100',
                        out => 40);
    });

    is($results[0]{problem}, undef, 'a stream outlives two generations');
    ok($results[1]{stay}, '... with its worker, and no other');
    ok(wait_for(sub { $nginx->workers() == 2 }, 15),
       '... which ends when it does');
    balanced('... and is charged', wait => 15);
    is(ledger()->{stat}{posted}, 1, '... once');


    # ----------------------------------- reloads, with Redis away

    # What these generations cannot tell Redis their heirs do.

    fresh_books($standin, $redis, $nginx);
    $load = start_load(n => 6, pause => 10, call => sub {
        my ($me, $i) = @_;

        return one_call("k$me", $i, path => $me < 4 ? '/v1/' : '/allow/',
                        limit => 10 * (1 + $me));
    });

    ok_when(sub { (ledger() // {})->{stat}{posted} });

    for (1 .. 2) {
        $proxy->set('refuse');
        sleep_ms(300);
        $nginx->reload();
        sleep_ms(500);
        $nginx->reload();
        $proxy->set('pass');
        sleep_ms(700);
    }

    $got = $load->stop();
    books('reloads while Redis is away lose nothing (T40)', $got);
    cmp_ok($got->{refused}, '>', 0, '... and calls were refused meanwhile');
    like(read_file("$nginx->{dir}/usage.log"), qr/"outage":"allow"/,
         '... or let in');
    ok(wait_for(sub { $nginx->workers() == 2 }, 15), '... by two workers');
    unlike($nginx->log_text(), qr/\[crit\]|is lost|cannot have made/,
           '... and the log knows of no loss');

    # and a shutdown: the next start tells it

    fresh_books($standin, $redis, $nginx);

    my @calls = parallel(12, sub {
        my ($i) = @_;

        if ($i == 11) {
            ok_when(sub {
                return (ledger() // {})->{stat}{pending} == 11;
            });
            $proxy->set('refuse');

            return {};
        }

        return one_call("k$i", 0, kinds => ['stream'], more => '; gap=100',
                        out => 20, limit => 10);
    });

    is(join('', map { $_->{problem} // '' } @calls), '',
       'streams are served to their ends though Redis is away');
    $nginx->stop();

    my @left = journal_left($nginx);

    cmp_ok(scalar(@left), '>', 0, '... and what they cost is in the journal');
    $proxy->set('pass');
    $nginx->start_again();
    balanced('... and told by the next nginx', wait => 15);
    my $stat = ledger()->{stat};
    my $charged = grep { $_->{cost_nusd} > 0 } usage_lines();

    is($stat->{posted}, $charged, '... each once')
        or diag(explain($stat), $nginx->log_text());
    ok(wait_for(sub { !journal_left($nginx) }, 10), '... and all of it');
    $nginx->stop();
}


# ------------------------------------------------ workers that die

for my $policy ('release', 'charge') {
    fresh_books($standin, $redis);

    my $nginx = start_nginx(workers => 2, shared => 1, conf => load_conf(
        redis => $redis->url() . ' timeout=2s',
        http => "    llm_budget_expire $policy;",
        more => "            llm_budget_hold_timeout 2s;\n"));

    # All calls cost the same, and hold the same; free => 3: what a worker was
    # about to answer when it died is gone.

    my @same = (kinds => ['long', 'stream'], prompt => 5, out => 20);
    my $cost = 5 * 2500 + 20 * 10000;

    my $load = start_load(n => 8, free => 3, call => sub {
        return streaming(@_, @same, any => 1);
    });
    my $killed = 0;

    for (1 .. soak(4)) {
        sleep_ms(1000);

        my @old = $nginx->workers();

        $killed++ if kill('KILL', $old[rand(@old)]);
        wait_for(sub {
            my @now = $nginx->workers();
            return @now == 2 && "@now" ne "@old";
        }, 10);
    }

    my $got = $load->stop();

    is($killed, soak(4), "$policy: workers die");
    is($got->{failed}, 0, '... and what is not metered is served');

    # what is overdue is closed by whoever reads the ledger

    my $ledger;

    wait_for(sub {
        $ledger = ledger() // return 0;
        return $ledger->{stat}{pending} == 0;
    }, 15);

    my $stat = $ledger->{stat};
    my $dump = ledger_dump($redis, 'llmb', '-');
    my (undef, $log, $ids) = LLMBudgetLoad::lines($nginx);
    my %state = map { $_ => $dump->{holds}{$_} } grep { $_ ne '!' }
                keys %{$dump->{holds}};
    my @expired = grep { $state{$_} eq 'e' } keys %state;
    my @posted = grep { $state{$_} eq 'p' } keys %state;
    my $text = read_file("$nginx->{dir}/usage.log");
    my %hold = map { $_ => 1 } $text =~ /"hold_nusd":(\d+)/g;

    is(scalar(keys %hold), 1, '... each call held the same');

    my ($hold) = keys %hold;

    is($stat->{pending}, 0, 'what they held is closed by its deadline (T02)');
    cmp_ok(scalar(@expired), '>', 0, '... and there was some');
    is($stat->{opened}, $stat->{posted} + $stat->{voided} + $stat->{expired},
       '... each hold once');
    is($stat->{expired}, scalar(@expired), '... which the ledger says');
    is($stat->{posted}, scalar(@posted), '... and of the others, too');

    # A worker that dies between the line of a call and its post leaves a line
    # whose hold expires, or it is the other way round.

    my @lines = grep { exists $ids->{$_} } @posted;
    my $served = LLMBudgetLoad::sum(map { $_->{n} } values %{$got->{sum}});

    is(scalar(grep { $ids->{$_} ne $cost } @lines), 0,
       '... the line of a posted call says what it cost');
    cmp_ok(scalar(@lines), '>=', @posted - 8 * $killed,
           '... and each but those in flight has one');
    is(scalar(grep { !$state{$_} } keys %$ids), 0,
       '... and there is a hold for each line');
    cmp_ok($served, '<=', @posted + @expired,
           '... and for each answer that was had');
    is(spent($ledger), @posted * $cost
                       + ($policy eq 'charge' ? @expired * $hold : 0),
       "the ledger is that, and a $policy of what expired");
    is(LLMBudgetLoad::sum(map { $_->{held} } @{$ledger->{accounts}}), 0,
       '... and nothing is held');

    if ($policy eq 'charge') {
        cmp_ok(spent($ledger), '>=', $standin->stats()->{billed_nusd},
               '... which is never less than what was billed');
    }

    # and then all is exact again

    my $before = spent($ledger);
    my $lines = keys %$ids;

    $standin->reset();
    $load = start_load(n => 4, call => sub { streaming(@_) });
    sleep_ms(500);
    $got = $load->stop();

    my $end = idle(lines => $lines + $got->{made});

    is(join('', @{$got->{problems}}), '', 'later calls are served');
    cmp_ok($end->{billed}, '>', 0, '... and billed');
    is(spent($end->{ledger}) - $before, $end->{billed},
       '... and charged that, exactly');
    is($end->{log} - $log, $end->{billed}, '... as their lines say');
    is($end->{ledger}{stat}{pending}, 0, '... and none is pending');
    $nginx->stop(allow => qr/exited on signal 9/);
}

$_->stop() for $proxy, $redis;
done_testing();


# Streams of half a second, one of eight clients' calls at once.

sub streaming
{
    my ($me, $i, %opt) = @_;

    return one_call("k$me", $i, kinds => ['long', 'stream', 'plain', 'long'],
                    limit => 10 * (1 + $me), %opt);
}


sub ok_when
{
    my ($sub) = @_;

    wait_for($sub, 10) or die "it does not come to that\n";
}
