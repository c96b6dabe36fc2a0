#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# While a body that is made to exhaust a parser comes in, the one worker there
# is answers everybody else (T34).  The body is sent part by part, and in
# between another connection gets its answer: no clock decides.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Select;
use IO::Socket::INET;
use JSON::PP ();
use Test::More;

use LLMBudget;


use constant PART => 1024 * 1024;

need_module();

my $standin = start_standin();

my $nginx = start_nginx(conf => llm_conf(
    server => <<'END',
        client_max_body_size 64m;
        client_body_buffer_size 512k;
END
    locations => <<'END'));
        location = /healthz {
            return 200 "well\n";
        }
END

my ($worker) = $nginx->workers();
my $million = 1_000_000;
my $head = '{"model":"m-std","max_tokens":9,"messages":';

for my $case (
    ['a million brackets', 400, '[' x $million],
    ['a million brackets as a value', 400, $head . '[' x $million],
    ['40 MiB of escapes', 200, $head . '[{"role":"user","content":"'
     . '\\u0041\\n\\ud83d\\ude00' x (40 * 1024 * 1024 / 20) . '"}]}'],
    ['50 MiB of one member', 400, '{' . '"a":1,' x (50 * 1024 * 1024 / 6)
     . '"model":"m-std","messages":[]}'],
    ['50 MiB of numbers', 200, $head . '[],"x":[' . '1,'
     x (25 * 1024 * 1024) . '1]}'],
    ['40 MiB of one key', 400, '{"' . 'k' x (40 * 1024 * 1024) . '":1}'])
{
    my ($name, $status, $body) = @$case;

    for my $chunked (0, 1) {
        my $how = $name . ($chunked ? ' in chunks' : '');
        my ($answer, $asked, $served) = post($body, $chunked);

        # what is refused is refused early

        cmp_ok($asked, '>=', $status == 200 ? length($body) / PART : 1,
               "T34: $how: others ask while it comes");
        is($served, $asked, '... and each of them is answered');
        is($answer->{status}, $status, '... and it gets its own answer')
            or diag($answer->{raw});
    }
}

is_deeply([$nginx->workers()], [$worker], 'T34: the worker lives');

balanced('the books agree', wait => 10);
$nginx->stop();
done_testing();


# Sends a body part by part, and asks something else after each; its answer,
# how often something else was asked, and how often answered before this one.
# An answer may come early, then the rest is not sent.

sub post
{
    my ($body, $chunked) = @_;

    my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $nginx->{port}) or die "cannot connect: $!\n";
    my ($asked, $served) = (0, 0);
    my $early = IO::Select->new($sock);
    my $other;

    LLMBudget::write_all($sock, request_text('POST', '/v1/chat/completions',
        headers => { Authorization => 'Bearer k1',
                     'Content-Type' => 'application/json',
                     $chunked ? ('Transfer-Encoding' => 'chunked')
                              : ('Content-Length' => length($body)) }));
    $LLMBudget::MADE++;

    for (my $at = 0; $at < length($body); $at += PART) {
        my $part = substr($body, $at, PART);
        my $last = $at + PART >= length($body);

        # of the last part a byte is kept until the others have been served

        my $end = $last ? chop($part) : '';

        $part = sprintf("%x\r\n%s\r\n", length($part), $part)
            if $chunked && length($part);
        $end = sprintf("%x\r\n%s\r\n0\r\n\r\n", length($end), $end)
            if $chunked && $last;

        LLMBudget::write_all($sock, $part) or last;

        my $answer = get('/healthz', uncounted => 1, keep => 1,
                         $other ? (sock => $other) : ());

        $other = $answer->{sock};
        $asked++;
        $served++ if $answer->{body} eq "well\n";

        last if $early->can_read(0);

        LLMBudget::write_all($sock, $end) if $last;
    }

    my $answer = send_raw('', sock => $sock, timeout => 60);

    return ($answer, $asked, $served);
}
