#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# One clock for all (T29): the time is that of Redis, whatever the clocks of
# nginx say.  Two nginx with clocks 90 seconds apart count the same periods,
# also while these turn; and what is held is charged where it was held.
#
# A shim in front of the C library moves the clocks, that of Redis, too.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Time::HiRes ();
use Time::Local 'timegm';

use LLMBudget;
use LLMBudgetRedis;


# the cost of a call, and of a long one, no multiple of it
my $SMALL = 202_500;
my $LONG = 10_012_500;

need_module();
need_redis();

my $dir = LLMBudget::new_dir();
my $shim = shim() // plan(skip_all => 'no compiler for the shim');
my %now = map { $_ => clock_of($_) } qw(redis a b);
my $made = 0;

start_standin();

my $redis = shifted('redis', sub { start_redis() });

set_clocks('2027-01-31T23:59:30');
plan(skip_all => 'the clock of this Redis cannot be moved')
    if substr(utc($redis->cli('TIME')->[0]), 0, 16) ne '2027-01-31T23:59';

my %nginx = map { $_ => shifted($_, \&nginx) } qw(a b);

apart();
turn();
edges();
jumps();
books('the books agree in the end');

for my $name (qw(a b)) {
    is(() = $nginx{$name}->log_text() =~ /\[(?:error|crit|warn)\]/g, 0,
       "the log of $name is quiet");
    $nginx{$name}->stop();
}

$redis->stop();
done_testing();


# clocks that differ, before the turn of a month

sub apart
{
    for my $name (qw(a b a b)) {
        is(call($name)->{status}, 200, "a call of $name, whose clock is wrong");
    }

    books('two books are one');

    for my $name (qw(a b)) {
        is_deeply(accounts($name), {
            'all/usd/lifetime' => 4 * $SMALL, 'day/requests/2027-01-31' => 4,
            'hour/requests/2027-01-31T23' => 4,
            'minute/requests/2027-01-31T23:59' => 4,
            'month/usd/2027-01' => 4 * $SMALL, 'week/requests/2027-W04' => 4,
            'year/requests/2027' => 4
        }, "$name tells the periods of the clock of Redis");
    }
}


# the turn of a month, day, hour and minute, really, under load

sub turn
{
    set_clocks('2027-01-31T23:59:58.500');

    my $edge = timegm(0, 0, 0, 1, 1, 2027);
    my @results = parallel(4, sub {
        my ($i) = @_;
        my $name = $i % 2 ? 'a' : 'b';
        my %count;

        if ($i < 2) {
            my $answer = call($name, 'out=1001; delay=2500');

            return { status => $answer->{status},
                     time => $redis->cli('TIME')->[0] };
        }

        do {
            $count{call($name)->{status}}++;
        } until $redis->cli('TIME')->[0] > $edge;

        return \%count;
    });

    my $n = 0;

    for my $i (0 .. 3) {
        my $result = $results[$i];

        if ($i < 2) {
            is($result->{status}, 200, 'a long call ends well');
            cmp_ok($result->{time}, '>=', $edge, '... in the next month');
            next;
        }

        is(join(' ', keys %$result), 200, 'calls are served during the turn');
        $n += $result->{200} // 0;
    }

    $made += 2 + $n;
    books('no cost was counted twice, or lost');

    my $spent = accounts('a');
    my ($old, $new) = @$spent{'month/usd/2027-01', 'month/usd/2027-02'};

    is($old + $new, (4 + $n) * $SMALL + 2 * $LONG,
       'two months have it all');
    is(($old - 2 * $LONG) % $SMALL, 0, '... the old one the long calls');
    is($new % $SMALL, 0, '... and the new one none of them');

    my $late = $new / $SMALL;

    cmp_ok($late, '>', 0, '... but what came after');

    for my $case ([qw(minute 2027-01-31T23:59 2027-02-01T00:00)],
                  [qw(hour 2027-01-31T23 2027-02-01T00)],
                  [qw(day 2027-01-31 2027-02-01)])
    {
        my ($limit, @ids) = @$case;

        is(join(' ', map { $spent->{"$limit/requests/$_"} // 0 } @ids),
           6 + $n - $late . " $late", "a $limit turns at the same time");
    }

    is(accounts('b')->{$_}, $spent->{$_}, "$_ is the same for both")
        for sort keys %$spent;
    is($spent->{'week/requests/2027-W04'} + $spent->{'week/requests/2027-W05'},
       6 + $n, 'so does a week');
    is($spent->{'year/requests/2027'}, 6 + $n, '... and a year goes on');
}


# other edges, and what a limit lets in on both sides of each: two a day

sub edges
{
    for my $case (
        ['2027-02-28T23:59:59', qw(2027-02 2027-W08 2027 2027-02-28)],
        ['2027-03-01T00:00:00', qw(2027-03 2027-W09 2027 2027-03-01)],
        ['2027-03-28T01:30:00', qw(2027-03 2027-W12 2027 2027-03-28)],
        ['2027-10-31T23:59:59', qw(2027-10 2027-W43 2027 2027-10-31)],
        ['2028-01-01T00:00:00', qw(2028-01 2027-W52 2028 2028-01-01)],
        ['2028-02-28T23:59:59', qw(2028-02 2028-W09 2028 2028-02-28)],
        ['2028-02-29T00:00:00', qw(2028-02 2028-W09 2028 2028-02-29)],
        ['2028-02-29T23:59:58', qw(2028-02 2028-W09 2028 2028-02-29)],
        ['2028-03-01T00:00:00', qw(2028-03 2028-W09 2028 2028-03-01)],
        ['2028-03-30T23:59:58', qw(2028-03 2028-W13 2028 2028-03-30)],
        ['2028-03-31T12:00:00', qw(2028-03 2028-W13 2028 2028-03-31)],
        ['2029-12-31T00:00:00', qw(2029-12 2030-W01 2029 2029-12-31)],
        ['2100-02-28T23:59:57', qw(2100-02 2100-W08 2100 2100-02-28)],
        ['2100-03-01T00:00:00', qw(2100-03 2100-W09 2100 2100-03-01)])
    {
        my ($time, $month, $week, $year, $day) = @$case;

        # time goes on: what is at an edge stays there

        set_clocks($time, 'stop');

        my $before = accounts('a');
        my $left = 2 - ($before->{"few/requests/$day"} // 0);

        for my $i (1 .. 3) {
            is(call($i % 2 ? 'a' : 'b', undef, 'X-Few' => 'x')->{status},
               $i <= $left ? 200 : 429,
               "$time: call $i of " . ($i % 2 ? 'a' : 'b'));
        }

        wait_for(sub { ledger()->{stat}{pending} == 0 });

        my $after = accounts('b');
        my %more = map { $_ => $after->{$_} - ($before->{$_} // 0) }
            grep { $after->{$_} != ($before->{$_} // 0) } keys %$after;

        is_deeply(\%more, { $left ? (
            'all/usd/lifetime' => 2 * $SMALL, "day/requests/$day" => 2,
            'hour/requests/' . substr($time, 0, 13) => 2,
            'minute/requests/' . substr($time, 0, 16) => 2,
            "month/usd/$month" => 2 * $SMALL, "week/requests/$week" => 2,
            "year/requests/$year" => 2, "few/requests/$day" => 2) : ()
        }, '... are of its periods') or diag(explain(\%more));
    }

    books('the books agree at all edges');
}


# clocks that jump

sub jumps
{
    set_clocks('2101-06-15T12:00:00', 'stop');
    is(call('a')->{status}, 200, 'a call at noon');

    for my $hours (1, -1, 24 * 40, -24 * 40) {
        set_clock('a', utc(timegm(0, 0, 12, 15, 5, 2101) + $hours * 3600));
        is(call('a')->{status}, 200, "the clock of nginx jumps by $hours h");
    }

    set_clocks('2101-06-14T23:59:59', 'stop');
    is(call('b')->{status}, 200, 'that of Redis jumps back');
    set_clocks('2101-06-15T12:00:00', 'stop');
    is(call('b')->{status}, 200, '... and forth');
    books('the books agree after the jumps');

    my $spent = accounts('a');

    is($spent->{'day/requests/2101-06-14'}, 1, 'one call is of the day before');
    is($spent->{'day/requests/2101-06-15'}, 6, '... and all others of the day');
}


# ------------------------------------------------------------------ clocks

sub shim
{
    write_file("$dir/shim.c", <<'END');
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* milliseconds: added to the time, or what it is from now on */
static volatile int64_t  *shift;

__attribute__((constructor)) static void
begin(void)
{
    int          fd;
    const char  *name;

    name = getenv("LLMB_CLOCK");
    fd = name ? open(name, O_RDONLY) : -1;

    if (fd != -1) {
        shift = mmap(NULL, 16, PROT_READ, MAP_SHARED, fd, 0);
        shift = shift == MAP_FAILED ? NULL : shift;
        close(fd);
    }
}

int
clock_gettime(clockid_t id, struct timespec *ts)
{
    int      rc;
    int64_t  ms;

    rc = (int) syscall(SYS_clock_gettime, id, ts);

    if (rc == 0 && shift && (id == CLOCK_REALTIME
                             || id == CLOCK_REALTIME_COARSE))
    {
        ms = shift[1] ? shift[1]
                      : ts->tv_sec * 1000 + ts->tv_nsec / 1000000 + shift[0];
        ts->tv_nsec = ms % 1000 * 1000000
                      + (shift[1] ? 0 : ts->tv_nsec % 1000000);
        ts->tv_sec = ms / 1000;
    }

    return rc;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
    struct timespec  ts;

    (void) tz;
    (void) clock_gettime(CLOCK_REALTIME, &ts);
    tv->tv_sec = ts.tv_sec;
    tv->tv_usec = ts.tv_nsec / 1000;

    return 0;
}

time_t
time(time_t *t)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_REALTIME, &ts);

    if (t) {
        *t = ts.tv_sec;
    }

    return ts.tv_sec;
}
END

    my $text = qx(gcc -O1 -shared -fPIC -o "$dir/shim.so" "$dir/shim.c" 2>&1);

    return $? == 0 ? "$dir/shim.so" : undef;
}


sub clock_of
{
    return write_file("$dir/clock.$_[0]", pack('qq', 0, 0));
}


# Runs what starts a process with that clock.

sub shifted
{
    my ($name, $sub) = @_;

    local $ENV{LD_PRELOAD} = join(':', grep { length } $ENV{LD_PRELOAD} // '',
                                  $shim);
    local $ENV{LLMB_CLOCK} = $now{$name};

    return $sub->();
}


# That time for Redis; the two nginx are 45 seconds before and after it.

sub set_clocks
{
    my ($time, $stop) = @_;

    set_clock('a', $time, 45, $stop);
    set_clock('b', $time, -45, $stop);
    set_clock('redis', $time, 0, $stop);
}


sub set_clock
{
    my ($name, $time, $more, $stop) = @_;

    my ($year, $month, $day, $hour, $minute, $second) = split(/[-T:]/, $time);
    my $ms = 1000 * (timegm(0, $minute, $hour, $day, $month - 1, $year)
                     + $second + ($more // 0));

    open(my $fh, '+<:raw', $now{$name}) or die "$now{$name}: $!\n";
    syswrite($fh, pack('qq', $ms - int(Time::HiRes::time() * 1000),
                       $stop ? $ms : 0));
    close($fh);
}


sub utc
{
    my ($second, $minute, $hour, $day, $month, $year) = gmtime($_[0]);

    return sprintf('%04d-%02d-%02dT%02d:%02d:%02d', $year + 1900, $month + 1,
                   $day, $hour, $minute, $second);
}


# --------------------------------------------------------------- the calls

sub nginx
{
    return start_nginx(conf => llm_conf(redis => $redis->url()
        . ' timeout=5s connect_timeout=5s',
        limit => ['all key=all usd=1000 per=lifetime',
                  (map { "$_ key=all requests=100000 per=$_" }
                       qw(minute hour day week year)),
                  'month key=all usd=1000 per=month',
                  'few key=$http_x_few requests=2 per=day']));
}


sub call
{
    my ($name, $standin, %headers) = @_;

    $made++;

    return post_json('/v1/chat/completions',
        { model => 'm-std', messages => [{ role => 'user',
                                           content => 'abcd' }] },
        headers => { Authorization => 'Bearer k', %headers },
        standin => $standin // 'out=20', port => $nginx{$name}{port});
}


# What each account has spent.

sub accounts
{
    my ($name) = @_;

    return { map { join('/', @$_{qw(budget unit period_id)}) => $_->{spent} }
             @{ledger(port => $nginx{$name}{port})->{accounts}} };
}


# What balanced() wants, of two nginx.

sub books
{
    my ($title) = @_;

    my (@usage, $ledger, $stats);
    my $cost = 0;

    wait_for(sub {
        @usage = map { usage_lines("$_->{dir}/usage.log") } values %nginx;
        $stats = $LLMBudget::STANDIN->stats();
        $ledger = ledger();

        return @usage >= $made && $ledger->{stat}{pending} == 0;
    }, 10);

    $cost += $_->{cost_nusd} // 0 for @usage;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    subtest($title, sub {
        is($ledger->{stat}{pending}, 0, 'no hold is pending');
        is(scalar(grep { $_->{held} } @{$ledger->{accounts}}), 0,
           'no account holds anything');
        is(scalar(@usage), $made, 'every request has its usage line');
        is(spent($ledger), $stats->{billed_nusd},
           'the ledger is what was billed');
        is($cost, $stats->{billed_nusd}, 'the usage log is what was billed');
    });
}
