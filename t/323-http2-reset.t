#!/usr/bin/perl

# Copyright (C) the ngx_http_llm_budget_module authors

# A client of HTTP/2 that resets its stream, and keeps its connection, pays as
# one that leaves: prompt and deltas (T02, T03).

use strict;
use warnings;

use FindBin;
use IO::Select;
use IO::Socket::INET;
use JSON::PP ();
use Test::More;

use lib "$FindBin::Bin/lib";
use LLMBudget;
use Metered;

# types of frames, and flags

use constant { DATA => 0, HEADERS => 1, RST => 3, SETTINGS => 4, PING => 6,
               WINDOW => 8, END_STREAM => 1, ACK => 1, END_HEADERS => 4,
               CANCEL => 8 };

need_module();

my $standin = start_standin();
my ($known) = check_conf(llm_conf(server =>
                                  '        listen 127.0.0.1:%%PORT2%% http2;'));

plan(skip_all => 'nginx has no HTTP/2') unless $known;

my $nginx = start_nginx(workers => 2, conf => llm_conf(server =>
    '        listen 127.0.0.1:%%PORT2%% http2;'));

my %body = (%{chat(max_tokens => 400)}, stream_options =>
            { include_usage => \1 });
my ($sock, $rest, $stream) = connect_h2();


# after some deltas, all on one connection

for my $n (1, 5, 50) {
    for my $more ('', '; gap=1') {
        my $before = @{$standin->stats()->{calls}};

        post_h2({ %body, stream => \1 },
                "out=200; count=body; wait_after=$n$more");

        ok(read_until(qr/\A(?>.*?abc ){$n}/s), "$n deltas come");
        frame(RST, 0, $stream, pack('N', CANCEL));

        my $line = next_line();
        my $bill = bill($before);

        is_line($line, { usage_source => 'estimated', end => 'aborted',
            cost_nusd => $bill->{billed_nusd}, output_tokens => $n,
            input_tokens => $bill->{input} },
            "T03: a stream reset after $n deltas costs prompt and deltas");
        is($bill->{end}, 'aborted', '... and the provider is told to stop');
    }
}

# before there is an answer, of a stream or not

for my $streams (0, 1) {
    my $before = @{$standin->stats()->{calls}};

    post_h2({ %body, stream => $streams ? \1 : \0 }, 'hang=1; count=body');
    ok(wait_for(sub { $standin->stats()->{in_flight} }), 'a call is made');
    frame(RST, 0, $stream, pack('N', CANCEL));

    my $line = next_line();
    my $bill = bill($before);

    is_line($line, { usage_source => 'estimated', end => 'aborted',
        cost_nusd => $bill->{billed_nusd}, output_tokens => 0 },
        "T03: one reset before its answer costs the prompt, stream $streams");
}

# in the midst of its body: nothing was sent

{
    my $requests = $standin->stats()->{requests};

    post_h2(undef, '');
    frame(DATA, 0, $stream, '{"model":"m-std","messages":[');
    frame(RST, 0, $stream, pack('N', CANCEL));

    my $line = next_line();

    is($line->{cost_nusd}, 0, 'T02: one reset in its body costs nothing');
    is($standin->stats()->{requests}, $requests, '... and is not sent');
    $LLMBudget::MADE++;
}

# the connection is as good as before

{
    my $before = @{$standin->stats()->{calls}};

    post_h2({ %body, stream => \1 }, 'out=3; prompt=100');
    ok(read_until(qr/\[DONE\]/), 'the connection serves on');
    is_line(next_line(), { end => 'complete', usage_source => 'provider',
        cost_nusd => bill($before)->{billed_nusd} }, '... and is charged');
}

balanced('the books agree', wait => 10, lines => scalar(usage_lines()));
$nginx->stop();
done_testing();


sub connect_h2
{
    my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $nginx->port_of('PORT2')) or die "cannot connect: $!\n";

    LLMBudget::write_all($sock, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                         . pack('NXCCN', 0, SETTINGS, 0, 0));

    return ($sock, '', -1);
}


sub frame
{
    my ($type, $flags, $id, $text) = @_;

    LLMBudget::write_all($sock, substr(pack('N', length($text)), 1)
                         . pack('CCN', $type, $flags, $id) . $text);
}


# A new stream; without a body its end is still to come.

sub post_h2
{
    my ($body, $controls) = @_;

    my @headers = (':method' => 'POST', ':scheme' => 'http',
        ':path' => '/v1/chat/completions', ':authority' => 'localhost',
        'content-type' => 'application/json',
        authorization => 'Bearer k1', 'x-stand-in' => $controls);
    my $block = '';

    # literals that are not indexed, of up to 126 bytes

    while (my ($name, $value) = splice(@headers, 0, 2)) {
        $block .= "\0" . pack('C/aC/a', $name, $value);
    }

    $stream += 2;
    frame(HEADERS, END_HEADERS, $stream, $block);
    frame(DATA, END_STREAM, $stream, JSON::PP->new->utf8->encode($body))
        if $body;
}


# Reads frames until the stream's data match.

sub read_until
{
    my ($regex) = @_;

    my $data = '';

    while ($data !~ $regex) {
        while (length($rest) < 9
               || length($rest) < 9 + unpack('N', "\0$rest"))
        {
            IO::Select->new($sock)->can_read(10) or return 0;
            sysread($sock, $rest, 65536, length($rest)) or return 0;
        }

        my $length = unpack('N', "\0$rest");
        my ($type, $flags, $id) = unpack('CCN', substr($rest, 3, 6));
        my $text = substr($rest, 9, $length);

        substr($rest, 0, 9 + $length, '');

        frame(SETTINGS, ACK, 0, '') if $type == SETTINGS && !($flags & ACK);
        frame(PING, ACK, 0, $text) if $type == PING && !($flags & ACK);

        next unless $type == DATA;

        frame(WINDOW, 0, 0, pack('N', $length)) if $length;
        $data .= $text if $id == $stream;
    }

    return 1;
}


# The stand-in's record of the call, once it is over there.

sub bill
{
    my ($before) = @_;

    return wait_for(sub { $standin->stats()->{calls}[$before] });
}
