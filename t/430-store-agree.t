#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# The Redis scripts keep the contract of the core's ledger: t/store/agree runs
# the same suite on the core, on one server and on a cluster of three, and
# random operations on both at once.


use strict;
use warnings;

use File::Temp qw(tempdir);
use FindBin;
use lib "$FindBin::Bin/lib";

use POSIX ();
use Test::More;

use LLMBudget;


my $server = which('redis-server');
my $cli = which('redis-cli');
my $root = root();
my $build = $LLMBudget::BUILD;
my $owner = $$;
my $dir;
my @pids;

plan(skip_all => 'redis-server is not installed')
    unless defined $server && defined $cli;
plan(skip_all => 'hiredis is not installed')
    unless -f '/usr/include/hiredis/hiredis.h';
plan(tests => 7);

$build = POSIX::getcwd() . "/$build" if $build !~ m{^/};
$dir = tempdir('llmb-agree-XXXXXX', TMPDIR => 1, CLEANUP => 1);

my $output = qx(make -s -f "$root/t/core.mk" ROOT="$root" OUT="$build/store" \\
    CC="\${CC:-gcc}" \\
    SAN="-fsanitize=address,undefined -fno-sanitize-recover=all" store 2>&1);

ok($? == 0, 'the program builds') or BAIL_OUT($output);

my $agree = "$build/store/agree";

subtest 'the core' => sub { run_program('core') };

SKIP: {
    my $path = "$dir/socket";

    redis('one', '--port', 0, '--unixsocket', $path);

    ok(wait_for(sub { ping('-s', $path) }), 'a server starts')
        or skip('no server', 1);

    subtest 'one server' => sub { run_program('redis', "unix:$path") };
}

SKIP: {
    my @ports = start_cluster();

    ok(@ports == 3, 'a cluster of three starts') or skip('no cluster', 1);

    subtest 'a cluster' => sub {
        run_program('redis', "127.0.0.1:$ports[0]", 'cluster', 500);
    };
}

my $missing = qx(sh "$root/scripts/embed-lua" "$dir/x.h" "$dir" 2>&1);

ok($? >> 8 == 1 && $missing eq "embed-lua: there is no $dir/common.lua\n",
   'a script that is missing is one clear line') or diag($missing);


END {
    my $status = $?;

    if (defined $owner && $$ == $owner) {
        kill('TERM', $_) for @pids;
        waitpid($_, 0) for @pids;
    }

    $? = $status;
}


sub which
{
    my ($name) = @_;

    for my $folder (split(/:/, $ENV{PATH} // ''), '/usr/bin') {
        return "$folder/$name" if -x "$folder/$name" && !-d _;
    }

    return undef;
}


# A server of this test alone, which keeps nothing.

sub redis
{
    my ($name, @args) = @_;

    mkdir("$dir/$name") or die "$dir/$name: $!\n";

    my $pid = fork() // die "fork: $!\n";

    if ($pid == 0) {
        open(STDIN, '<', '/dev/null');
        open(STDOUT, '>', "$dir/$name/log");
        open(STDERR, '>&', \*STDOUT);
        { no warnings; exec($server, '--dir', "$dir/$name", '--save', '',
                            '--appendonly', 'no', '--daemonize', 'no',
                            @args); }
        POSIX::_exit(127);
    }

    push @pids, $pid;

    return;
}


sub ping
{
    my (@where) = @_;

    return qx("$cli" @where ping 2>&1) =~ /^PONG/;
}


# The bus of a node listens 10000 above its port.

sub cluster_port
{
    for (1 .. 200) {
        my $port = free_port();

        return $port if $port < 55536 && IO::Socket::INET->new(
            LocalAddr => '127.0.0.1', LocalPort => $port + 10000,
            Proto => 'tcp', Listen => 1);
    }

    die "no free port for a cluster\n";
}


# The ports of the nodes, or nothing.

sub start_cluster
{
    my @ports = map { cluster_port() } 1 .. 3;

    for my $port (@ports) {
        redis("node-$port", '--bind', '127.0.0.1', '--port', $port,
              '--cluster-enabled', 'yes', '--cluster-node-timeout', 5000);
    }

    for my $port (@ports) {
        return unless wait_for(sub { ping('-p', $port) });
    }

    my $nodes = join(' ', map { "127.0.0.1:$_" } @ports);
    my $made = qx("$cli" --cluster create $nodes --cluster-yes 2>&1);

    for my $port (@ports) {
        my $up = wait_for(sub {
            qx("$cli" -p $port cluster info 2>&1) =~ /^cluster_state:ok/m
        }, 30);

        if (!$up) {
            diag($made);
            return;
        }
    }

    return @ports;
}


# Passes on each line of TAP, and holds the program to its plan, its exit code
# and the silence of the sanitizers.

sub run_program
{
    my (@args) = @_;

    my ($count, $plan, @noise) = (0);

    open(my $fh, '-|', "'$agree' @args 2>&1") or die "$agree: $!\n";

    while (my $line = <$fh>) {
        chomp $line;

        if ($line =~ /^(not )?ok\b\s*\d*\s*(?:-\s*)?(.*)$/) {
            $count++;
            ok(!$1, $2);

        } elsif ($line =~ /^1\.\.(\d+)/) {
            $plan = $1;

        } elsif ($line =~ /^#\s?(.*)/) {
            diag($1);

        } else {
            push @noise, $line;
        }
    }

    close($fh);

    my $status = $?;

    is($plan, $count, 'the plan is what ran');
    ok($status == 0, 'exits with 0')
        or diag('signal ', $status & 127, ', code ', $status >> 8);
    ok(!@noise, 'prints nothing but TAP, so no sanitizer spoke')
        or diag(join("\n", @noise[0 .. ($#noise < 40 ? $#noise : 40)]));

    return;
}
