#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# The journal in trouble: lines that are damaged or that Redis refuses are kept
# and said, and those behind them are told; where there is no room nothing is
# let in, and what could not be kept is in the log (T40).


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
my $mounted;


# ---------------------------------------------------------- damaged lines

subtest('a line is damaged', sub {
    fresh();
    refuse();
    served() for 1 .. 5;
    $nginx->stop(title => 'nginx stops');

    my ($file) = grep { -s $_ } glob("$dir/*");
    my @lines = split(/\n/, read_file($file));

    is(scalar(@lines), 5, 'there are five lines');

    my $good = $lines[2];
    my $seen = length($nginx->log_text());

    # another amount would be another cost, were it not for the checksum

    $lines[2] =~ s/ 32500 / 32501 / or die "no cost: $good\n";
    write_file($file, join('', map { "$_\n" } @lines));


    # it is met more than once

    $proxy->set('reset 3 match=EVALSHA');
    $nginx->start_again();
    ok(wait_for(sub { ($proxy->stats()->{faults}{reset} // 0) == 3 }, 10),
       'Redis flaps for a while');
    ok(wait_for(sub { posted() == 4 }), 'the others are charged');

    my ($bad) = glob("$dir/bad.*");

    is(read_file($bad // ''), "$lines[2]\n", '... and that one is kept, once');
    like(substr($nginx->log_text(), $seen),
         qr/\[crit\][^\n]*is damaged, and is kept in/, '... and said');
    ok(wait_for(sub { !-e $file }), '... and the file is gone');

    # the operator repairs it

    unlink($bad);
    repair("$good\n");
    after();
});


# A file that was cut in its last line, by a full disk.

subtest('the last line is cut', sub {
    fresh();
    refuse();
    served() for 1 .. 3;
    $nginx->stop(title => 'nginx stops');

    my ($file) = grep { -s $_ } glob("$dir/*");
    my $text = read_file($file);
    my ($last) = $text =~ /([^\n]+)\n\z/;

    write_file($file, substr($text, 0, -20));
    no_faults();
    $nginx->start_again();
    ok(wait_for(sub { posted() == 2 && glob("$dir/bad.*") }),
       'what is whole is charged, and the rest kept');
    unlink(glob("$dir/bad.*"));
    repair($last);
    after();
});


# ----------------------------------------------- lines that Redis refuses

# Its account is one of another unit: no time will cure that, and what stands
# behind it must not wait.

for my $where ('in the journal', 'at once') {
    subtest("a charge is refused $where", sub {
        fresh();

        is(call(key => 'k1')->{status}, 200, 'a call is served before');
        wait_for(sub { (ledger()->{stat}{pending} // 1) == 0 });

        my $seen = length($nginx->log_text());
        my ($field, $info) = account('own', 'k1');

        if ($where eq 'at once') {

            # redis is away for the open only

            $proxy->set('reset 1 match=EVALSHA');

        } else {
            refuse();
        }

        my $sock = call(key => 'k1', no_read => 1, keep => 1,
                        standin => 'out=3; delay=700')->{sock};

        wait_for(sub { $standin->stats()->{in_flight} == 1 });
        $redis->cli('HSET', 'llmb{-}:accounts', $field, $info =~ s/^0/3/r);

        if ($where eq 'at once') {
            wait_for(sub { ledger() }, 8);
        }

        is(send_raw([], sock => $sock)->{status}, 200, 'it is let in');
        is(call(key => 'k2')->{status}, 200, 'another, of another key, too');
        no_faults();

        ok(wait_for(sub { posted() == 2 && lines_left() == 1 }, 8),
           'what comes after it is charged');

        my ($bad) = glob("$dir/bad.*");
        my $line = read_file($bad // '');

        like($line, qr/\Allmb1 post \w{32} [^\n]*\n\z/, '... and it is kept');
        like(substr($nginx->log_text(), $seen),
             qr/\[crit\][^\n]*redis cannot charge[^\n]*llmb1 post /,
             '... and said');

        # the operator repairs the account

        $redis->cli('HSET', 'llmb{-}:accounts', $field, $info);
        unlink($bad // '');
        repair($line);
        after();
    });
}


# ---------------------------------------------------------------- no room

subtest('the journal is full', sub {
    fresh();

    my $seen = length($nginx->log_text());

    write_file("$dir/bad.journal.1.0", 'x' x 65_500 . "\n");
    refuse();

    # the folder is looked through once a second

    ok(wait_for(sub { call()->{status} == 503 }), 'calls are refused');

    # Redis is there for a moment: nobody needs the journal

    no_faults();
    wait_for(sub { ledger() }, 8);

    my @streams = map { stream(gap => $_) } 60, 200;

    wait_for(sub { $standin->stats()->{in_flight} == 2 });
    refuse();
    ended($_) for @streams;

    # in flight, they cannot be refused any more

    my $log = substr($nginx->log_text(), $seen);
    my @full = $log =~ /(\[crit\][^\n]*is full)/g;
    my @lost = $log =~ /\[crit\][^\n]*is lost: (llmb1 post [^\n]*)/g;

    is(scalar(@full), 1, 'the log says that it is full, once');
    is(scalar(@lost), 2, '... and what could not be kept');
    wait_for(sub { usage_lines() == $LLMBudget::MADE });
    is(join(' ', map { $_->{flags} ? "@{$_->{flags}}" : '' }
            (grep { $_->{status} == 200 } usage_lines())[-2, -1]),
       'charge_lost charge_lost', '... as the usage lines do');
    is(call()->{status}, 503, 'calls are still refused');
    unlink("$dir/bad.journal.1.0");
    ok(wait_for(sub { call()->{status} == 200 }),
       'until there is room again');

    # the operator has them from the log

    repair(join('', map { "$_\n" } @lost));
    no_faults();
    after();
});


SKIP: {
    my $proof = "$nginx->{dir}/proof";

    mkdir($proof);
    skip('no chattr', 1)
        if $> != 0 || system("chattr +i '$proof' 2>/dev/null") != 0;
    system("chattr -i '$proof'");

    subtest('the folder cannot be written', sub {
        fresh();
        $nginx->stop(title => 'nginx stops');

        my $seen = length($nginx->log_text());

        system("chattr +i '$dir'");
        refuse();
        $nginx->start_again();

        my @status = map { sleep_ms(300); call()->{status} } 1 .. 8;

        system("chattr -i '$dir'");

        my $log = substr($nginx->log_text(), $seen);
        my $crit = () = $log =~ /\[crit\]/g;

        is("@status", '503 ' x 7 . '503', 'no call is let in');
        is($standin->stats()->{requests}, 0, '... nor sent');
        like($log, qr/\[crit\][^\n]*the journal "[^"]*" cannot be used/,
             'the log says why');
        cmp_ok($crit, '<=', 2, '... and not again and again');
        ok(wait_for(sub { call()->{status} == 200 }),
           'once it can be written they are');
        no_faults();
        after();
    });
}


# A disk that is full: nothing that was let in is lost but what was in flight.

SKIP: {
    skip('no tmpfs', 1) if $> != 0;

    fresh();
    $nginx->stop(title => 'nginx stops');
    skip('no tmpfs', 1)
        if system('mount -t tmpfs -o size=16k,mode=700 none '
                  . "'$dir' 2>/dev/null") != 0;

    $mounted = $dir;

    subtest('the disk is full', sub {
        write_file("$dir/filler", 'x' x 12_000);
        refuse();
        $nginx->start_again();

        my @status;

        # some fit

        wait_for(sub {
            push @status, call()->{status};
            return $status[-1] == 503;
        });

        my $n = grep { $_ == 200 } @status;
        my $before = $standin->stats()->{requests};

        cmp_ok($n, '>', 1, 'some calls are let in');
        is(join(' ', map { sleep_ms(300); call()->{status} } 1 .. 8),
           '503 ' x 7 . '503', '... and then no more');
        is($standin->stats()->{requests}, $before, '... nor sent');

        my @lost = $nginx->log_text()
            =~ /\[crit\][^\n]*is lost: (llmb1 post [^\n]*)/g;

        unlink("$dir/filler");
        ok(wait_for(sub { call()->{status} == 200 }),
           'once there is room they are');
        repair("$lost[-1]\n");
        no_faults();
        after();
    });

    $nginx->stop(title => 'nginx stops');
    unmount();
    $nginx->start_again();
}

unlike($nginx->log_text(), qr/told twice/, 'no line was counted twice');
$nginx->stop();
is(join(' ', glob("$dir/*")), '', 'the folder is empty');
$_->stop() for $proxy, $redis;
done_testing();


sub unmount
{
    system("umount '$mounted'") if defined $mounted;
    undef $mounted;
}


END {
    unmount();
}


# The field of an account with its unit, and what it has.

sub account
{
    my ($budget, $key) = @_;

    my %all = @{$redis->cli('HGETALL', 'llmb{-}:accounts')};
    my ($field) = grep { /i$/ && $all{$_} =~ m{ $budget/usd/.*/$key$} }
        keys %all;

    return ($field, $all{$field});
}
