#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# The unit tests of the core: builds t/unit/test_*.c with sanitizers and runs
# each program, one test here per program, its own TAP inside.


use strict;
use warnings;

use File::Basename qw(basename);
use FindBin;
use Test::More;


my $root = "$FindBin::Bin/..";

my $output = `$root/scripts/unit 2>&1`;

if ($? != 0) {
    plan tests => 1;
    fail("the unit tests build");
    diag($output);
    exit;
}

my ($dir) = $output =~ /^unit: (.+)$/m;
my @names = map { basename($_, '.c') } sort glob("$root/t/unit/test_*.c");

plan skip_all => 'no unit tests' if !@names;
plan tests => scalar @names;

chdir $root or die "$root: $!\n";

for my $name (@names) {
    subtest $name => sub { run_program("$dir/$name") };
}


# Passes on each line of TAP, and holds the program to its plan, its exit code
# and the silence of the sanitizers.

sub run_program {
    my ($path) = @_;

    my ($count, $plan, @noise) = (0);

    open my $fh, '-|', "$path 2>&1" or die "$path: $!\n";

    while (my $line = <$fh>) {
        chomp $line;

        if ($line =~ /^(not )?ok\b\s*\d*\s*(?:-\s*)?(.*)$/) {
            $count++;
            ok(!$1, $2);

        } elsif ($line =~ /^1\.\.(\d+)/) {
            $plan = $1;

        } elsif ($line =~ /^#\s?(.*)/) {
            note_or_diag($1);

        } else {
            push @noise, $line;
        }
    }

    close $fh;

    my $status = $?;

    is($plan, $count, 'the plan is what ran');
    ok($status == 0, 'exits with 0')
        or diag('signal ', $status & 127, ', code ', $status >> 8);

    ok(!@noise, 'prints nothing but TAP, so no sanitizer spoke')
        or diag(join("\n", @noise[0 .. ($#noise < 40 ? $#noise : 40)]));
}


# "got" and "expected" of a failure are to be seen, other remarks not.

sub note_or_diag {
    my ($text) = @_;

    if (!Test::More->builder->is_passing) {
        diag($text);

    } else {
        note($text);
    }
}
