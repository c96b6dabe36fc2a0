#!/usr/bin/perl

# Copyright (C) the ngx_http_llm_budget_module authors

# Exact costs: cache, reasoning, long prompts, service tiers, searches, and
# whose price it is.  The stand-in computes the same with code of its own.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/lib";
use LLMBudget;
use Metered;

need_module();
start_standin();

my $nginx = start_nginx(conf => llm_conf());
my $messages = chat()->{messages};

sub chat_of { return ['/v1/chat/completions', chat(@_)] }

sub claude
{
    return ['/v1/messages', { model => 'c-std', max_tokens => 1000,
                              messages => $messages, @_ }];
}

sub responses
{
    return ['/v1/responses', { model => 'm-std', input => 'abcd', @_ }];
}

# call, controls, cost, title, more of the usage line

my @cases = (
    [chat_of(), 'prompt=10000; cached=9000; out=100', 14_750_000,
     'cached input has its own price (T13)',
     { input_tokens => 10000, cached_read_tokens => 9000 }],
    [claude(), 'prompt=9010; cached=9000; out=100', 4_230_000,
     'cached input of Anthropic has its own price (T13)',
     { input_tokens => 9010, cached_read_tokens => 9000 }],
    [claude(), 'prompt=1010; write5m=400; write1h=600; out=20', 5_430_000,
     'cache writes have two prices (T14)',
     { cache_write_tokens => 1000, cache_write_1h_tokens => 600 }],
    [chat_of(), 'prompt=100; out=500; reasoning=400', 5_250_000,
     'reasoning inside the completion is not added (T15)',
     { output_tokens => 500, reasoning_tokens => 400 }],
    [chat_of(model => 'x-std'),
     'prompt=36; out=700; reasoning=690; outside=1', 10_608_000,
     'reasoning outside of the completion is (T15)',
     { output_tokens => 700, reasoning_tokens => 690 }],

    [chat_of(model => 'g-std'), 'prompt=200000; out=10', 250_100_000,
     'a prompt of just the size of a step is below it (T16)', {}],
    [chat_of(model => 'g-std'), 'prompt=200001; out=10', 500_152_500,
     'a token more moves the whole request (T16)', {}],
    [chat_of(model => 'g-std'), 'prompt=200001; cached=50001; out=0',
     150_000 * 2500 + 50_001 * 250,
     'cached input counts towards the step (T16)', {}],
    [claude(model => 'claude-sonnet-4-5'),
     'prompt=200001; write5m=200001; out=1', 200_001 * 7500 + 22_500,
     'cache writes count towards it, too (T16)', {}],

    [chat_of(model => 'm-tier', service_tier => 'priority'),
     'prompt=100; out=20', 100 * 4250 + 20 * 17000,
     'priority costs what priority costs (T17)',
     { service_tier => 'priority' }],
    [chat_of(model => 'm-tier', service_tier => 'priority'),
     'prompt=100; out=20; tier=default', 450_000,
     'the tier that served is paid, not the one asked for (T17)',
     { service_tier => 'default' }],
    [chat_of(model => 'm-tier', service_tier => 'flex'),
     'prompt=100; out=20', 225_000, 'flex costs half (T17)',
     { service_tier => 'flex' }],
    [chat_of(model => 'm-tier', service_tier => 'priority'),
     'prompt=100; out=20; tier=none', 100 * 4250 + 20 * 17000,
     'where the answer is silent, the one asked for (T17)',
     { service_tier => '' }],
    [chat_of(model => 'm-tier', service_tier => 'auto'),
     'prompt=100; out=20; tier=scale', 100 * 4250 + 20 * 17000,
     'a tier without a price costs the dearest known (T17)',
     { service_tier => 'scale', flags => 'tier_unpriced' }],
    [chat_of(), 'prompt=100; out=20; tier=priority', 450_000,
     'and where there is but one, that one, flagged (T17)',
     { service_tier => 'priority', flags => 'tier_unpriced' }],

    [responses(model => 'm-search', tools => [{ type => 'web_search' }]),
     'prompt=100; out=20; searches=2', 20_450_000,
     'searches cost by the piece (T18)', { web_searches => 2 }],
    [responses(model => 'm-search', tools => [{ type => 'web_search' }]),
     'prompt=100; out=20', 450_000,
     'a declared tool costs nothing (T18)', { web_searches => 0 }],
    [claude(model => 'claude-sonnet-4-5'),
     'prompt=100; out=20; searches=2', 20_600_000,
     'as do those of Anthropic (T18)', { web_searches => 2 }],

    (map { [chat_of(), "prompt=100; out=20; served=$_", 450_000,
            "\"$_\" is priced as m-std (T19)",
            { priced_as => 'm-std', model_served => $_ }] }
     qw(m-std-2026-07-09 m-std-20260709 m-std-latest openai/m-std)),
    [chat_of(), 'prompt=100; out=20; served=m-mini', 27_000,
     'the model that served is paid (T19)', { priced_as => 'm-mini' }],
    [chat_of(model => 'm-mini'), 'prompt=100; out=20; served=m-std', 450_000,
     'also if it is dearer (T19)', { priced_as => 'm-std' }],
    [chat_of(), 'prompt=100; out=20; served=m-std-turbo', 450_000,
     'no name is guessed: an unknown one is paid as sent, and flagged (T19)',
     { priced_as => 'm-std', model_served => 'm-std-turbo',
       flags => 'model_unpriced' }],

    [['/v1/completions', { model => 'm-std', prompt => 'abcd' }],
     'prompt=100; out=16', 410_000, 'legacy completions are paid', {}],
    [['/v1/embeddings', { model => 'm-embed', input => 'abcd' }],
     'prompt=100', 2_000, 'embeddings are paid', { output_tokens => 0 }],
    [chat_of(model => 'm-free'), 'prompt=100; out=20', 0,
     'a model that is free costs nothing, and is counted (T31)',
     { input_tokens => 100, output_tokens => 20 }],
    [chat_of(n => 3), 'prompt=100; out=20', 250_000 + 600_000,
     'several answers are paid', { output_tokens => 60 }],
    [chat_of(), 'prompt=1; out=1; cached=1', 11_250,
     'the smallest call is exact to the nano-USD', {}],
);

for my $case (@cases) {
    my ($call, $controls, $cost, $title, $more) = @$case;
    my ($path, $body) = @$call;

    for my $stream ($path =~ /embeddings/ ? (0) : (0, 1)) {
        my ($answer, $line, $bill) = call($path,
            { %$body, $stream ? (stream => \1) : () }, standin => $controls);

        is_line($line, { usage_source => 'provider', end => 'complete',
            status => 200, cost_nusd => $cost, flags => '',
            ($controls =~ /outside/ ? (flags => 'usage_surplus') : ()),
            %$more }, $title . ($stream ? ', in a stream' : ''));
        is($bill->{billed_nusd}, $cost, "... and is what is billed");
    }
}

balanced('the books agree');
$nginx->stop();
done_testing();
