#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# The static checks: a test per step of scripts/check.


use strict;
use warnings;

use FindBin;
use Test::More;


my $check = "$FindBin::Bin/../scripts/check";
my @steps = split ' ', `$check list`;

plan tests => scalar @steps;

for my $step (@steps) {
    my $output = `$check $step 2>&1`;
    my $status = $?;

    SKIP: {
        skip "$step is not installed", 1 if $output =~ /: skipped, /;

        ok($status == 0, "scripts/check $step has no finding")
            or diag($output);
    }
}
