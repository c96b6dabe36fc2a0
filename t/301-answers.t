#!/usr/bin/perl

# Copyright (C) the ngx_http_llm_budget_module authors

# Answers of t/fixtures/answers through a running gateway, whole and in
# pieces: their exact cost, and their bytes.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/lib";
use LLMBudget;
use Metered;

need_module();

my $chat = chat();
my $asks = chat(stream => \1, stream_options => { include_usage => \1 });
my $hidden = chat(stream => \1);
my $completions = { model => 'm-std', prompt => 'abcd' x 10 };
my $responses = { model => 'm-std', input => 'abcd' x 10 };
my $search = { model => 'm-search', input => 'abcd' x 10,
               tools => [{ type => 'web_search' }] };
my $messages = { model => 'c-std', max_tokens => 1000,
                 messages => $chat->{messages} };
my $hour = { %$messages, system => [{ type => 'text', text => 'abcd',
             cache_control => { type => 'ephemeral', ttl => '1h' } }] };
my $plain = 100 * 2500 + 20 * 10000;

# file, body, [cost, input, output], title; then what differs from
# usage_source=provider end=complete

my @cases = (
    ['messages-delta-has-output.sse', $messages, [2_700_000, 8025, 15],
     'message_start seeds and message_delta overwrites (T10)'],
    ['messages-delta-repeats-input.sse', $messages, [2_700_000, 8025, 15],
     'a repeated split is not added (T10)'],
    ['messages-delta-corrects-input.sse', $messages,
     [9_093_300, 8849, 426], 'a corrected split wins, also a smaller one '
     . '(T10)', { flags => 'usage_decreased' }],
    ['messages-many-deltas.sse', $messages, [300_000, 25, 15],
     'the last of several message_delta counts, a null is absent (T10)'],
    ['messages-no-end.sse', $messages, [2_505_000, 8025, 2],
     'what message_start says of the output is not the last word (T10)',
     { usage_source => 'estimated' }],
    ['messages-cached.json', $messages, [4_230_000, 9010, 100],
     'cache reads are beside the input in Anthropic answers (T13)'],
    ['messages-cache-writes.json', $messages, [5_430_000, 1010, 20],
     'cache writes of an hour have their own price (T14)'],
    ['messages-cache-writes-whole.json', $messages,
     [30_000 + 3_750_000 + 300_000, 1010, 20],
     'cache writes without a breakdown are of five minutes (T14)'],
    ['messages-cache-writes-whole.json', $hour,
     [30_000 + 6_000_000 + 300_000, 1010, 20],
     'unless the request asked for an hour (T14)'],
    ['messages-searches.json', { %$messages, model => 'claude-sonnet-4-5' },
     [30_000 + 300_000 + 20_000_000, 10, 20],
     'web searches cost by the piece (T18)'],
    ['messages-fallback.json', $messages,
     [300_000 + 300_000 + 3_000_000 + 750_000, 1100, 70],
     'what another model did is priced as that model (T19)'],

    ['chat-cached.json', $chat, [14_750_000, 10000, 100],
     'cached input is part of the prompt in OpenAI answers (T13)'],
    ['chat-reasoning.json', $chat, [5_250_000, 100, 500],
     'reasoning is part of the completion (T15)'],
    ['chat-reasoning-outside.json', { %$chat, model => 'x-std' },
     [10_608_000, 36, 700], 'reasoning that the total has beyond the '
     . 'completion is added (T15)', { flags => 'usage_surplus' }],
    ['chat-usage-in-text.json', $chat, [$plain, 100, 20],
     'usage and events quoted in the text are text (T12)'],
    ['chat-usage-first.json', $chat, [$plain, 100, 20],
     'the usage may come first (T12)'],
    ['chat-odd-frames.sse', $asks, [$plain, 100, 20],
     'preamble, empty and null frames change nothing (T57)'],
    ['chat-usage-in-last-delta.sse', $hidden, [$plain, 100, 20],
     'usage inside a content frame is read and stays (T09)'],
    ['chat-crlf-no-done.sse', $asks, [$plain, 100, 20],
     'a stream may have CRLF, comments and no [DONE] (T12, T45)'],
    ['chat-no-space-no-end.sse', $asks, [$plain, 100, 20],
     'no space after data:, a BOM, no blank line at the end (T12)'],
    ['chat-data-lines.sse', $asks, [$plain, 100, 20],
     'an event may have several data lines (T12)'],
    ['chat-error-first.sse', $asks, [0, 0, 0],
     'an error before all content releases the hold (T44)',
     { usage_source => 'none', end => 'error_event' }],
    ['chat-error-after-deltas.sse', $asks, [29 * 2500 + 3 * 10000, 29, 3],
     'an error after content is charged for the content alone (T44, T47)',
     { usage_source => 'estimated', end => 'error_event' }],

    ['responses-incomplete.sse', $responses, [$plain, 100, 20],
     'response.incomplete is charged (T44)'],
    ['responses-failed.sse', $responses, [$plain, 100, 20],
     'response.failed with usage is charged (T44)',
     { end => 'error_event' }],
    ['responses-failed-no-usage.sse', $responses, [0, 0, 0],
     'response.failed without usage and content is released (T44)',
     { usage_source => 'none', end => 'error_event' }],
    ['responses-searches.json', $search, [$plain + 20_000_000, 100, 20],
     'web_search_call items are counted (T18)'],
    ['responses-search-unused.json', $search, [$plain, 100, 20],
     'a declared search that was not used costs nothing (T18)'],

    ['completions-no-output.json', $completions, [250_000, 100, 0],
     'a completion without completion_tokens has no output'],
    ['embeddings.json', { model => 'm-embed', input => 'abcd' },
     [2_000, 100, 0], 'embeddings cost their input'],
);

my %path = (chat => '/v1/chat/completions', messages => '/v1/messages',
            completions => '/v1/completions', responses => '/v1/responses',
            embeddings => '/v1/embeddings');
my %answers;

for my $path (glob(root() . '/t/fixtures/answers/*')) {
    my ($name, $kind) = $path =~ m{([\w-]+)\.(json|sse)$} or next;

    $answers{$name} = [{ 'content-type' => $kind eq 'sse'
        ? 'text/event-stream' : 'application/json' }, read_file($path)];
}

start_standin(vectors => answers_of(%answers));

my $nginx = start_nginx(conf => llm_conf());
my %used;

for my $case (@cases) {
    my ($file, $body, $numbers, $title, $more) = @$case;
    my ($name) = $file =~ /^([\w-]+)\./;
    my ($dialect) = $file =~ /^(\w+)/;
    my ($cost, $input, $output) = @$numbers;

    $used{$name} = 1;
    $body = { %$body, stream => \1 } if $file =~ /\.sse$/;

    for my $pieces (0, 1, 2, 7) {
        my $how = $pieces ? "$pieces bytes at a time" : 'whole';
        my ($answer, $line) = call($path{$dialect}, $body, billed => 0,
            standin => "vector=$name:0" . ($pieces ? "; pieces=$pieces" : ''));

        is_line($line, { usage_source => 'provider', end => 'complete',
            status => 200, cost_nusd => $cost, input_tokens => $input,
            output_tokens => $output, flags => '', %{$more // {}} },
            "$title, $how");
        ok($answer->{body} eq $answers{$name}[1] && !$answer->{truncated},
           "$file reaches the client as it is, $how");
    }
}

is(join(' ', grep { !$used{$_} } sort keys %answers), '',
   'every answer was used');

agree('the ledger is the sum of the usage log');
$nginx->stop();
done_testing();
