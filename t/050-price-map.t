#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors
#
# Price maps as whole files, read by price_cat: our fixture, and a full public
# LiteLLM map, which must load whole, every entry either priced or counted as
# not metered.

use strict;
use warnings;

use FindBin;
use JSON::PP ();
use Test::More;


my $root = "$FindBin::Bin/..";
my $bin = ($ENV{LLMB_UNIT_DIR} // "$root/build/unit") . '/price_cat';
my $fixture = "$FindBin::Bin/fixtures/prices.json";
my $map = "$root/../shared/prices/model_prices_and_context_window.json";

my @rates = qw(in read 5m 1h out ain aout);


plan skip_all => 'price_cat is not built: run scripts/unit' if !-x $bin;


subtest 'the fixture is read as it is meant' => sub {
    my $got = price_cat($fixture, qw(m-std m-mini c-std g-std x-std m-free
        m-tier m-search m-embed m-nomax gpt-4o gpt-4o-mini claude-sonnet-4-5
        openai/m-std m-std-2026-07-09 m-brand-new));

    is($got->{priced}, 13, 'every entry is priced');
    is($got->{'not metered'}, 0, 'none is left out');
    is($got->{warning}, undef, 'there is nothing to warn of');

    price_is($got, 'm-std', 'default 0', in => 2500000, read => 1250000,
             out => 10000000);
    price_is($got, 'm-mini', 'default 0', in => 150000, read => 75000,
             out => 600000);
    price_is($got, 'c-std', 'default 0', in => 3000000, read => 300000,
             '5m' => 3750000, '1h' => 6000000, out => 15000000);
    price_is($got, 'g-std', 'default 0', in => 1250000, read => 125000,
             out => 10000000);
    price_is($got, 'g-std', 'default 200000', in => 2500000, read => 250000,
             out => 15000000);
    price_is($got, 'x-std', 'default 0', in => 3000000, read => 750000,
             out => 15000000);
    price_is($got, 'm-free', 'default 0', in => 0, out => 0);
    price_is($got, 'm-tier', 'flex 0', in => 1250000, read => 625000,
             out => 5000000);
    price_is($got, 'm-tier', 'priority 0', in => 4250000, read => 2125000,
             out => 17000000);
    price_is($got, 'm-embed', 'default 0', in => 20000, out => 0);

    is($got->{model}{'m-free'}{free}, 1, 'the free model is free');
    is($got->{model}{'m-std'}{free}, 0, 'others are not');
    is($got->{model}{'m-search'}{search}, 10000000000,
       'a search costs as the dearest size');
    is($got->{model}{'m-std'}{max}, '1000000 16384', 'the maxima are read');
    is($got->{model}{'m-nomax'}{max}, '0 0', 'there may be none');
    is($got->{model}{'openai/m-std'}{is}, 'm-std', 'a prefix is cut');
    is($got->{model}{'m-std-2026-07-09'}{is}, 'm-std', 'a date is cut');
    is($got->{model}{'m-brand-new'}, 'unknown', 'a new model is unknown');
};


subtest 'a full public map' => sub {
    plan skip_all => 'no map beside the project' if !-f $map;

    my $entries = map_read($map);
    my $got = price_cat($map, grep { !/^(?:sample_spec|fallback_gen)/ }
                                   sort keys %$entries);

    is($got->{error}, undef, 'loads without an error');
    cmp_ok($got->{priced}, '>', 2000, 'has many priced entries');
    is($got->{priced} + $got->{'not metered'}, 2984,
       'every entry is priced or counted as not metered');
    like($got->{warning}, qr/^\d+ entries .*"wandb\/openai\/gpt-oss-120b"/,
         'entries of a wrong unit are warned of');

    map_check($entries, $got);
    map_check_list($got);
};


done_testing();


# Every entry of the map against its numbers as doubles.

sub map_check {
    my ($entries, $got) = @_;

    my ($priced, @wrong, @missing, @free) = (0);

    for my $name (sort keys %$entries) {
        my $entry = $entries->{$name};
        my $price = $got->{model}{$name};

        next if !defined $price;

        my ($in, $out) = @$entry{qw(input_cost_per_token
                                    output_cost_per_token)};
        my $known = defined $in && defined $out;

        if ($price eq 'unknown' || $price->{is} ne $name) {
            push @missing, $name
                if $known && $in + $out > 0 && $in <= 0.01 && $out <= 0.01;
            next;
        }

        $priced++;

        # a dearer price of reasoning counts as that of the output

        my $reasoning = $entry->{output_cost_per_reasoning_token};
        $out = $reasoning if $known && $reasoning && $reasoning > $out;

        my $row = $price->{row}{'default 0'};

        push @wrong, $name
            if $known && (!near($row->{in}, $in) || !near($row->{out}, $out))
               || $price->{free} && (!$known || $in + $out > 0);

        push @free, $name
            if $price->{free} && grep { /cost/ && !ref $entry->{$_}
                                        && $entry->{$_} > 0 } keys %$entry;
    }

    is($priced, $got->{priced}, 'every priced entry is found by its name');
    is_deeply(\@missing, [], 'every plausible price is known');
    is_deeply(\@wrong, [], 'every base price is right');
    is_deeply(\@free, [], 'nothing with any price is free');
}


# Real entries, to the pico-USD.

sub map_check_list {
    my ($got) = @_;

    price_is($got, 'gpt-4o', 'default 0', in => 2500000, read => 1250000,
             out => 10000000);
    price_is($got, 'gpt-4o', 'priority 0', in => 4250000, read => 2125000,
             out => 17000000);
    price_is($got, 'gpt-4o', 'batch 0', in => 1250000, read => 1250000,
             out => 5000000);
    price_is($got, 'gpt-4o-mini', 'default 0', in => 150000, read => 75000,
             out => 600000);
    price_is($got, 'gpt-5', 'flex 0', in => 625000, read => 62500,
             out => 5000000);
    price_is($got, 'gpt-5.4', 'default 272000', in => 5000000, read => 500000,
             out => 22500000);
    price_is($got, 'gpt-5.4', 'priority 272000', in => 5000000,
             read => 500000, out => 30000000);
    price_is($got, 'claude-sonnet-4-5', 'default 0', in => 3000000,
             read => 300000, '5m' => 3750000, '1h' => 6000000,
             out => 15000000);
    price_is($got, 'claude-sonnet-4-5', 'default 200000', in => 6000000,
             read => 600000, '5m' => 7500000, '1h' => 12000000,
             out => 22500000);
    price_is($got, 'claude-sonnet-4-20250514', 'default 200000',
             in => 6000000, read => 600000, '5m' => 7500000,
             '1h' => 12000000, out => 22500000);
    price_is($got, 'claude-opus-4-5', 'default 0', in => 5000000,
             read => 500000, '5m' => 6250000, '1h' => 10000000,
             out => 25000000);
    price_is($got, 'gemini-2.5-pro', 'default 200000', in => 2500000,
             read => 250000, '5m' => 250000, out => 15000000);
    price_is($got, 'dashscope/qwen3-coder-plus', 'default 128000',
             in => 3000000, read => 300000, out => 15000000);
    price_is($got, 'text-embedding-3-small', 'default 0', in => 20000,
             out => 0);
    price_is($got, 'databricks/databricks-claude-opus-4', 'default 0',
             in => 15000020, out => 75000030);

    is($got->{model}{'claude-sonnet-4-5'}{search}, 10000000000,
       'claude-sonnet-4-5: a search is 0.01 USD');
    is($got->{model}{'gpt-4o'}{max}, '128000 16384', 'gpt-4o: the maxima');
    is($got->{model}{'xai/grok-4-1-fast'}{max}, '2000000 2000000',
       'xai/grok-4-1-fast: maxima written as decimals');
    is($got->{model}{'rerank-v3.5'}, 'unknown',
       'rerank-v3.5: zeros beside a price per query are not metered');
}


# Counts, and for each model its fields and rows, or 'unknown'.

sub price_cat {
    my ($file, @models) = @_;

    my (%got, $model);

    open my $fh, '-|', $bin, $file, @models or die "$bin: $!\n";

    while (my $line = <$fh>) {
        chomp $line;

        if ($line =~ /^(priced|not metered) (\d+)$/) {
            $got{$1} = $2;

        } elsif ($line =~ /^(warning|error)\b:? ?(.*)/) {
            $got{$1} = $2;

        } elsif ($line =~ /^model (.*) unknown$/) {
            $got{model}{$1} = 'unknown';

        } elsif ($line =~ /^model\ (.*)\ is\ (.*)\ provider\ (.*)
                           \ max\ (\d+\ \d+)\ search\ (-?\d+)\ free\ (\d)/x)
        {
            $model = { is => $2, provider => $3, max => $4, search => $5,
                       free => $6, row => {} };
            $got{model}{$1} = $model;

        } elsif ($line =~ /^row (\w+) above (\d+) (.*)/) {
            $model->{row}{"$1 $2"} = { split / /, $3 };

        } else {
            die "price_cat: \"$line\"\n";
        }
    }

    close $fh;

    return \%got;
}


sub price_is {
    my ($got, $name, $row, %want) = @_;

    my $price = $got->{model}{$name};

    is_deeply(ref $price ? $price->{row}{$row} : $price,
              { map { $_ => $want{$_} // '-' } @rates }, "$name: $row");
}


sub map_read {
    my ($file) = @_;

    open my $fh, '<:raw', $file or die "$file: $!\n";
    local $/;

    return JSON::PP->new->utf8->decode(scalar <$fh>);
}


# Ours is rounded up to one pico-USD, a double is only near.

sub near {
    my ($pusd, $usd) = @_;

    return abs($pusd - $usd * 1e12) <= 1;
}
