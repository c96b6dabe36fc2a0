#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# What other test files say of the store in the zone holds for Redis and for a
# cluster, too: those that are about the ledger, unchanged.  All of them:
# scripts/test-stores.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use LLMBudget;
use LLMBudgetRedis;


my %files = (
    redis => [qw(
        200-first-calls 231-retries 240-skipped-handlers 250-limit-race
        251-limit 252-reserve 253-unpriced-model 254-degrade 255-clamp
        256-denial 257-clamped-denial 259-degrade-redirect 260-labels
        303-nano 320-client-aborts 321-upstream-faults 323-http2-reset
        400-hold-expiry 402-reload 403-reload-module 404-shutdown-timeout
        420-abort-storm 500-variables 510-usage-line
        910-concurrency-period 920-fallback-bound 922-nested-endpoint
    )],
    cluster => [qw(
        200-first-calls 250-limit-race 251-limit 254-degrade 256-denial
        400-hold-expiry 402-reload 404-shutdown-timeout 420-abort-storm
    )],
);

need_zone_store();              # else this would be its own store twice
need_module();
need_redis();

for my $store (qw(redis cluster)) {
    for my $file (@{$files{$store}}) {
        my $path = "$FindBin::Bin/$file.t";

        local $ENV{LLMB_STORE} = $store;

        my $text = qx("$^X" "$path" 2>&1);
        my $status = $?;
        my $count = () = $text =~ /^ok \d/mg;

        ok($status == 0 && $count > 0, "$store: $file")
            or diag(complaints($text, $status));
    }
}

done_testing();


# What is worth reading of a test that failed.

sub complaints
{
    my ($text, $status) = @_;

    my @lines = grep { /^\s*not ok |^\s*#|^1\.\.0|^[^\s\w]/ }
                split(/\n/, $text);

    splice(@lines, 40) if @lines > 40;

    return "wait status $status\n" . join("\n", @lines);
}
