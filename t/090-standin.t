#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# The stand-in provider answers, misbehaves and bills as it should, and the
# test library reads it right: what the system tests rest on.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use File::Temp ();
use JSON::PP ();
use Test::More;

use LLMBudget;

plan(skip_all => 'no python3') if system('python3 -c 0 2>/dev/null') != 0;


my $json = JSON::PP->new->utf8->canonical;
my $dir = File::Temp::tempdir(CLEANUP => 1);

# TRAPS section 0, and what its other tests need

my $prices = write_file("$dir/prices.json", <<'END');
{"sample_spec": {"input_cost_per_token": 1},
 "m-std": {"litellm_provider": "openai", "mode": "chat",
    "max_output_tokens": 16384, "input_cost_per_token": 2.5e-06,
    "cache_read_input_token_cost": 1.25e-06,
    "output_cost_per_token": 1e-05,
    "input_cost_per_token_priority": 5e-06,
    "output_cost_per_token_priority": 2e-05,
    "search_context_cost_per_query": {"search_context_size_low": 0.005,
        "search_context_size_high": 0.01}},
 "c-std": {"litellm_provider": "anthropic", "mode": "chat",
    "input_cost_per_token": 3e-06, "cache_read_input_token_cost": 3e-07,
    "cache_creation_input_token_cost": 3.75e-06,
    "cache_creation_input_token_cost_above_1hr": 6e-06,
    "output_cost_per_token": 1.5e-05},
 "g-std": {"litellm_provider": "gemini", "mode": "chat",
    "input_cost_per_token": 1.25e-06, "cache_read_input_token_cost": 1.25e-07,
    "output_cost_per_token": 1e-05,
    "input_cost_per_token_above_200k_tokens": 2.5e-06,
    "output_cost_per_token_above_200k_tokens": 1.5e-05},
 "m-frac": {"litellm_provider": "openai", "mode": "chat",
    "input_cost_per_token": 1e-10, "output_cost_per_token": 1.5e-10}}
END

my $standin = start_standin(prices => $prices);
my $port = $standin->{port};

my %chat = (model => 'm-std',
            messages => [{ role => 'user', content => 'abcdefghi' }]);


sub post
{
    my ($path, $body, $control, %opt) = @_;

    return post_json("/v1/$path", $body, port => $port, standin => $control,
                     %opt);
}


# A call's JSON answer and its bill.

sub plain
{
    my $answer = post(@_);
    my $data = eval { $json->decode($answer->{body}) } // {};

    return ($data, last_call(), $answer);
}


sub last_call
{
    my $stats = wait_for(sub {
        my $stats = $standin->stats();
        return $stats->{in_flight} == 0 ? $stats : undef;
    });

    return $stats->{calls}[-1];
}


# The data of every event.

sub events
{
    my ($answer) = @_;

    return map { /^data: (.*)/m ? $1 : () } split(/\r?\n\r?\n/,
                                                  $answer->{body});
}


sub bill_is
{
    my ($path, $body, $control, $nusd, $title) = @_;

    my ($data, $call) = plain($path, $body, $control);

    is($call->{billed_nusd}, $nusd, $title);
}


my ($data, $call, $answer, @events);

# plain answers

($data, $call, $answer) = plain('chat/completions', \%chat);

is($answer->{status}, 200, 'a chat call is answered');
is($data->{usage}{prompt_tokens}, 3, 'nine bytes are three prompt tokens');
is($data->{usage}{completion_tokens}, 16, 'sixteen words unless asked');
is($data->{choices}[0]{message}{content}, 'abc ' x 16,
    'a word is one token of four bytes');
is($call->{billed_nusd}, 3 * 2500 + 16 * 10000,
    'its bill is the plain product');

($data, $call) = plain('chat/completions',
    { %chat, n => 3, max_completion_tokens => 5, max_tokens => 7 });

is(scalar @{$data->{choices}}, 3, 'n answers are given');
is($call->{output}, 15, 'the binding ceiling holds for each answer');
is($data->{choices}[2]{finish_reason}, 'length',
    'a ceiling shows as finish_reason length');

($data, $call) = plain('chat/completions', \%chat, 'out=999999');
is($call->{output}, 16384, 'the model\'s own maximum bounds the output');

($data, $call) = plain('completions',
    { model => 'm-std', prompt => ['abcd', 'abcde'], best_of => 2 },
    'out=2');
is($call->{input}, 3, 'all prompts count together');
is($call->{output}, 8, 'best_of answers of each prompt are billed');

($data, $call) = plain('embeddings',
    { model => 'm-std', input => [1, 2, 3, 4, 5] });
is($data->{usage}{prompt_tokens}, 5, 'a token id is one token');
is($call->{output}, 0, 'embeddings have no output');

($data, $call) = plain('responses',
    { model => 'm-std', input => 'abcd', instructions => 'abcd',
      max_output_tokens => 4 });
is($data->{status}, 'incomplete', 'a response at its ceiling is incomplete');
is($data->{usage}{input_tokens}, 2, 'instructions are input');

($data, $call) = plain('messages',
    { model => 'c-std', max_tokens => 9, system => 'abcd',
      messages => [{ role => 'user',
                     content => [{ type => 'text', text => 'abcd' }] }] });
is($data->{usage}{input_tokens}, 2, 'system and parts are input');
is($data->{usage}{output_tokens}, 9, 'messages keep max_tokens');
is($data->{stop_reason}, 'max_tokens', 'and say so');

($data, $call, $answer) = plain('messages',
    { model => 'c-std', messages => [] });
is($answer->{status}, 400, 'messages without max_tokens are refused');
is($data->{type}, 'error', 'in their own shape');
is($call->{billed_nusd}, 0, 'and nothing is billed');

($data, $call, $answer) = plain('messages/count_tokens',
    { model => 'c-std', messages => [{ role => 'user',
                                       content => 'abcde' }] });
is($data->{input_tokens}, 2, 'tokens can be counted');

is(get('/v1/models', port => $port)->{status}, 200, 'models can be listed');
is(get('/v1/nothing', port => $port)->{status}, 404,
    'an unknown path is not found');

# prices: the figures of TRAPS

my %long = (%chat, max_tokens => 10000);
my %claude = (model => 'c-std', max_tokens => 1000, messages => []);

bill_is('chat/completions', \%long, 'prompt=10000;cached=9000;out=100',
    14750000, 'cached input is cheaper (T13)');
bill_is('messages', \%claude, 'prompt=9010;cached=9000;out=100', 4230000,
    'cached input in the other convention (T13)');
bill_is('messages', \%claude,
    'prompt=1010;write5m=400;write1h=600;out=20', 5430000,
    'cache writes by their life (T14)');
bill_is('chat/completions', \%long, 'prompt=100;out=500;reasoning=400',
    5250000, 'reasoning is part of the output (T15)');
bill_is('chat/completions', { %long, model => 'g-std' },
    'prompt=200000;out=10', 250100000, 'a prompt at the threshold (T16)');
bill_is('chat/completions', { %long, model => 'g-std' },
    'prompt=200001;out=10', 500152500, 'a prompt above it (T16)');
bill_is('chat/completions', { %long, model => 'g-std' },
    'prompt=200001;cached=200000;out=0', 50002500,
    'a rate that a long prompt does not name rises with the input rate');
bill_is('chat/completions', { %long, service_tier => 'priority' },
    'prompt=2;cached=2;out=0', 5000,
    'and so does one that a tier does not name');
bill_is('chat/completions', { %long, model => 'm-frac' },
    'prompt=1;out=1', 1, 'a quarter nano-dollar is rounded up, once');
bill_is('chat/completions', { %long, service_tier => 'priority' },
    'prompt=1;out=1', 25000, 'the tier asked for is served');
bill_is('chat/completions', { %long, service_tier => 'priority' },
    'prompt=1;out=1;tier=default', 12500, 'the tier served is billed (T17)');
bill_is('chat/completions', \%long, 'prompt=1;out=1;tier=flex', 25000,
    'a tier without prices costs the dearest (T17)');
bill_is('responses', { model => 'm-std', input => 'abcd' },
    'out=0;searches=2', 20002500, 'searches are billed per call (T18)');
bill_is('chat/completions', \%long,
    'prompt=1;out=1;served=m-std-2026-07-09', 12500,
    'a dated name is its model (T19)');
bill_is('chat/completions', \%long, 'prompt=1;out=1;served=nobody', 12500,
    'an unknown served model is billed as the one asked for (T19)');
bill_is('chat/completions', \%long, 'prompt=100;cached=200;out=0', 125000,
    'cached tokens never exceed the prompt');

($data) = plain('chat/completions', \%long,
    'prompt=36;out=700;reasoning=690;outside=1');
is_deeply([@{$data->{usage}}{qw(completion_tokens total_tokens)}], [10, 736],
    'reasoning can stand outside the completion (T15)');

# streams

my %asked = (%chat, stream => JSON::PP::true,
             stream_options => { include_usage => JSON::PP::true });
my %silent = (%chat, stream => JSON::PP::true);

@events = events(post('chat/completions', \%asked, 'out=3'));
is(scalar @events, 7, 'role, three deltas, end, usage and [DONE]');
is($events[-1], '[DONE]', '[DONE] is last');
is_deeply($json->decode($events[-2])->{choices}, [],
    'the usage chunk has no choices');
is($json->decode($events[-2])->{usage}{completion_tokens}, 3,
    'and the usage');
ok(exists $json->decode($events[1])->{usage}
   && !defined $json->decode($events[1])->{usage},
    'earlier chunks have a null');

$answer = post('chat/completions', \%silent, 'out=3');
unlike($answer->{body}, qr/usage/, 'no usage unless asked (T08)');
is(last_call()->{output}, 3, 'but it is billed');

$answer = post('chat/completions', \%silent, 'out=3;usage=every');
@events = events($answer);
is_deeply([map { $json->decode($_)->{usage}{completion_tokens} }
           @events[0 .. 4]], [0, 1, 2, 3, 3], 'usage grows in every chunk');

@events = events(post('chat/completions', \%silent, 'usage=in_content'));
is($json->decode($events[-2])->{choices}[0]{finish_reason}, 'stop',
    'usage can stand in the last chunk with choices');
ok($json->decode($events[-2])->{usage}, 'there it is');

@events = events(post('chat/completions', \%asked, 'usage=first'));
is($json->decode($events[1])->{usage}{completion_tokens}, 16,
    'usage can come first');

@events = events(post('chat/completions', \%asked, 'usage=bad'));
is($json->decode($events[-2])->{usage}{prompt_tokens}, -5,
    'usage can be nonsense (T59)');

$answer = post('chat/completions', \%asked, 'no_done=1;crlf=1;usage=none');
unlike($answer->{body}, qr/\[DONE\]|prompt_tokens|[^\r]\n/,
    'no [DONE], no usage, CRLF');

@events = events(post('messages', { %claude, stream => JSON::PP::true },
                      'prompt=25;out=15'));
is_deeply([map { $json->decode($_)->{type} } @events[0 .. 3, -3 .. -1]],
    [qw(message_start content_block_start ping content_block_delta
        content_block_stop message_delta message_stop)],
    'the events of messages');
is($json->decode($events[0])->{message}{usage}{input_tokens}, 25,
    'message_start has the input');
is_deeply($json->decode($events[-2])->{usage}, { output_tokens => 15 },
    'message_delta the output');

@events = events(post('messages', { %claude, stream => JSON::PP::true },
                      'prompt=25;out=15;delta=full'));
is($json->decode($events[-2])->{usage}{input_tokens}, 25,
    'or all of it again');

@events = events(post('responses', { model => 'm-std', input => 'abcd',
                                     stream => JSON::PP::true }, 'out=2'));
is($json->decode($events[-1])->{type}, 'response.completed',
    'the last event of responses');
is($json->decode($events[-1])->{response}{usage}{output_tokens}, 2,
    'has the usage');
ok(!defined $json->decode($events[0])->{response}{usage},
    'the first has none');

# whoever cuts pieces must get the same bytes

$standin->reset();

my $whole = post('chat/completions', \%asked, 'out=5')->{body};

for my $control ('pieces=1', 'pieces=7') {
    $standin->reset();
    is(post('chat/completions', \%asked, "out=5;$control")->{body}, $whole,
        "$control changes no byte");
}

$answer = post('chat/completions', \%chat, 'pieces=3');
is($answer->{headers}{'transfer-encoding'}, 'chunked',
    'a plain answer in pieces is chunked');
ok(!$answer->{truncated} && !$answer->{timed_out}, 'and has its end');
ok($json->decode($answer->{body}), 'and its bytes');

# leaving early

$answer = post('chat/completions', \%asked, 'out=50;wait_after=5',
               abort_on => qr/(?:abc .*){5}/s);
$call = last_call();
ok($answer->{aborted}, 'the client leaves after five deltas');
is_deeply([@$call{qw(aborted end output billed_nusd)}],
    [JSON::PP::true, 'aborted', 5, 3 * 2500 + 5 * 10000],
    'prompt and five deltas are billed');
is($standin->stats()->{early_fin}, 1, 'the early end is counted');

($data, $call) = plain('chat/completions', \%chat, 'count=body;out=0');
is($call->{input}, 11, 'keys and all count where asked for');

$answer = post('chat/completions', \%asked, 'hang=1', abort_after => 100);
is(last_call()->{billed_nusd}, 7500,
    'who leaves before the header pays the prompt');

$answer = post('chat/completions', \%asked, 'out=5',
               abort_on => qr/\[DONE\]/, rst => 1);
is(last_call()->{billed_nusd}, 57500,
    'who leaves at [DONE] pays it all (T04)');

# failing

$answer = post('chat/completions', \%asked, 'status=429;retry_after=7');
is($answer->{status}, 429, 'a status as asked');
is($answer->{headers}{'retry-after'}, 7, 'with Retry-After');
is($json->decode($answer->{body})->{error}{type}, 'rate_limit_error',
    'in the shape of OpenAI');
is(last_call()->{billed_nusd}, 0, 'is free');

for my $how ('before', 'accept') {
    $answer = post('chat/completions', \%asked, "die=$how");
    is($answer->{status}, 0, "die=$how sends nothing");
    is(last_call()->{billed_nusd}, 0, 'and is free');
}

$answer = post('chat/completions', \%asked, 'cut=100');
is(length($answer->{body}), 100, 'a body cut at byte 100');
ok($answer->{truncated}, 'is seen as cut');

$answer = post('chat/completions', \%asked, 'cut_events=3');
is(scalar(events($answer)), 3, 'a stream cut after three events');
$call = last_call();
is_deeply([@$call{qw(end output)}], ['cut', 2],
    'bills the two deltas that left');

$answer = post('chat/completions', \%chat, 'cut=20');
is(last_call()->{output}, 16, 'a plain answer was all produced');

@events = events(post('chat/completions', \%asked, 'error_event=4'));
ok($json->decode($events[-1])->{error}, 'an error after four deltas');
is(last_call()->{output}, 4, 'bills the four');
@events = events(post('messages', { %claude, stream => JSON::PP::true },
                      'error_event=0'));
is($json->decode($events[0])->{type}, 'error', 'an error at once');
is(last_call()->{billed_nusd}, 0, 'is free');

is(post('chat/completions', \%chat, 'outt=3')->{status}, 500,
    'a mistyped control is refused');
is(post('chat/completions', '{"model":')->{status}, 400,
    'a body that is not JSON is refused');

# encodings, framing, timing

$answer = post('chat/completions', \%chat, undef,
               headers => { 'Accept-Encoding' => 'br, gzip' });
is($answer->{headers}{'content-encoding'}, 'gzip',
    'a client that takes gzip gets it');
is($standin->last_request()->{header}{'accept-encoding'}, 'br, gzip',
    'the request is kept');
$answer = post('chat/completions', \%chat, 'ignore_encoding=1',
               headers => { 'Accept-Encoding' => 'gzip' });
ok(!$answer->{headers}{'content-encoding'}, 'or not');
$answer = post('chat/completions', \%asked, 'gzip=1;out=40');
is($answer->{headers}{'content-encoding'}, 'gzip',
    'gzip comes uninvited too');

SKIP: {
    eval { require Compress::Zlib } or skip 'no Compress::Zlib', 1;
    like(Compress::Zlib::memGunzip($answer->{body}), qr/\[DONE\]/,
        'and can be read');
}

$answer = post('chat/completions', \%chat, 'accel=/x;header=X-A: b');
is($answer->{headers}{'x-accel-redirect'}, '/x', 'X-Accel-Redirect');
is($answer->{headers}{'x-a'}, 'b', 'any header');

$answer = post('chat/completions', \%chat, undef, chunked => 3);
is($answer->{status}, 200, 'a chunked request is read');
is($standin->last_request()->{body}, $json->encode(\%chat),
    'byte for byte');

$answer = post('chat/completions', \%asked, 'out=2', version => '1.0');
ok(!$answer->{headers}{'transfer-encoding'}, 'HTTP/1.0 gets no chunks');
like($answer->{body}, qr/\[DONE\]\n\n\z/, 'but everything');

$answer = post('chat/completions', \%asked, 'out=3;delay=100;gap=50');
cmp_ok($answer->{t_header}, '>=', 0.09, 'the header is delayed');
cmp_ok($answer->{t_end} - $answer->{t_header}, '>=', 0.09,
    'so are the deltas');

my $sock;

for my $i (1 .. 3) {
    $answer = post('chat/completions', \%chat, undef, keep => 1,
                   sock => $sock);
    $sock = $answer->{sock};
    is($answer->{status}, 200, "request $i on one connection");
}

close($sock);

# many at once, and the sum

$standin->reset();

my @statuses = parallel(8, sub {
    my @got = map { post('chat/completions', \%asked, 'out=10')->{status} }
              1 .. 5;
    return join(' ', @got);
});

is_deeply(\@statuses, [('200 200 200 200 200') x 8], 'forty calls in eight '
    . 'processes');
is($standin->stats()->{billed_nusd}, 40 * 107500, 'the sum is exact');

# recorded answers

SKIP: {
    skip 'no recorded traffic', 4 unless defined vectors();

    my $line = (split(/\n/, read_file(vectors()
                    . '/anthropic_messages_stream.jsonl')))[0];
    my $vector = $json->decode($line);

    $answer = post('messages', '{}', 'vector=anthropic_messages_stream:0');
    is($answer->{status}, $vector->{status}, 'a recorded status');
    is($answer->{headers}{'content-type'},
        $vector->{response_headers}{'content-type'}, 'a recorded header');
    like($answer->{body}, qr/message_stop/, 'a recorded body');
    is(last_call()->{output}, $vector->{expected}{output},
        'is billed as it should be read');
}

# through nginx, without the module

SKIP: {
    skip 'no nginx', 7 unless defined find_nginx();

    my $conf = <<'END';
http {
    server {
        listen 127.0.0.1:%%PORT%%;

        location / {
            proxy_pass http://127.0.0.1:%%STANDIN%%;
            proxy_buffering off;
        }
    }
}
END

    my $nginx = start_nginx(module => '', workers => 2, conf => $conf);

    is(scalar $nginx->workers(), 2, 'the workers are known');

    $answer = post_json('/v1/chat/completions', \%asked, standin => 'out=2');
    like($answer->{body}, qr/\[DONE\]/, 'the default port is nginx');

    $answer = post_json('/v1/chat/completions', \%asked,
                        standin => 'out=20;wait_after=2',
                        abort_on => qr/(?:abc .*){2}/s);
    is(last_call()->{output}, 2, 'an abort reaches the provider');

    ok($nginx->reload(), 'it reloads');
    is(get('/v1/models')->{status}, 200, 'and answers');

    my ($pass, $text) = check_conf('nonsense on;', module => '');

    ok(!$pass, 'a wrong configuration is refused');
    like($text, qr/unknown directive "nonsense"/, 'with a reason');

    $nginx->stop();
}

$standin->stop();

done_testing();
