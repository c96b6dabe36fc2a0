#!/usr/bin/perl

# Copyright (C) the ngx_http_llm_budget_module authors

# Identity is asked for, and a provider that compresses all the same is read
# through zlib; what cannot be read is charged at the hold.  The client gets
# the provider's bytes (T07).

use strict;
use warnings;

use Compress::Raw::Zlib;
use FindBin;
use IO::Compress::Deflate qw(deflate);
use IO::Compress::Gzip qw(gzip);
use IO::Compress::RawDeflate qw(rawdeflate);
use IO::Uncompress::Gunzip qw(gunzip);
use Test::More;

use lib "$FindBin::Bin/lib";
use LLMBudget;
use Metered;

need_module();

my $plain = '{"model":"m-std","choices":[{"index":0,"message":{"content":"'
    . join(' ', map { $_ * 7919 } 1 .. 3000) . '"}}],"usage":'
    . '{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120}}';
my $stream = join('', map { 'data: {"model":"m-std","choices":[{"index":0,'
    . qq("delta":{"content":"w$_ "}}]}\n\n) } 1 .. 50)
    . 'data: {"model":"m-std","choices":[],"usage":{"prompt_tokens":100,'
    . qq("completion_tokens":20,"total_tokens":120}}\n\ndata: [DONE]\n\n);

# each event flushed by itself, as a server that streams does

my $events = '';

{
    my ($z) = Compress::Raw::Zlib::Deflate->new(-WindowBits => 31,
                                                -AppendOutput => 1);

    for my $event (split(/(?<=\n\n)/, $stream)) {
        $z->deflate($event, $events);
        $z->flush($events, Z_SYNC_FLUSH);
    }

    $z->flush($events);
}

sub packed
{
    my ($sub, $text) = @_;
    my $out = '';

    $sub->(\$text, \$out) or die "cannot compress\n";

    return $out;
}

my $half = int(length($plain) / 2);
my @members = (packed(\&gzip, substr($plain, 0, $half)),
               packed(\&gzip, substr($plain, $half)));

# name => [Content-Encoding, bytes, stream, what is charged]

my %cases = (
    gzip => ['gzip', packed(\&gzip, $plain), 0, 1],
    upper => ['GZIP', packed(\&gzip, $plain), 0, 1],
    deflate => ['deflate', packed(\&deflate, $plain), 0, 1],
    members => ['gzip', join('', @members), 0, 1],
    stream => ['gzip', packed(\&gzip, $stream), 1, 1],
    flushed => ['gzip', $events, 1, 1],
    identity => ['identity', $plain, 0, 1],

    raw => ['deflate', packed(\&rawdeflate, $plain), 0, 0],
    br => ['br', "\x1b\x03" . 'not brotli at all' x 20, 0, 0],
    zstd => ['zstd', "\x28\xb5\x2f\xfd" . 'x' x 100, 0, 0],
    twice => ['gzip, gzip', packed(\&gzip, packed(\&gzip, $plain)), 0, 0],
    lie => ['gzip', $plain, 0, 0],
    lie_stream => ['gzip', $stream, 1, 0],
    broken => ['gzip', do {
        my $bytes = packed(\&gzip, $plain);
        substr($bytes, 400, 20) = "\xff" x 20;
        $bytes }, 0, 0],
    short => ['gzip', substr(packed(\&gzip, $plain), 0, 2000), 0, 0],
);
my %answers = map { $_ => [{ 'content-type' => $cases{$_}[2]
    ? 'text/event-stream' : 'application/json',
    'content-encoding' => $cases{$_}[0] }, $cases{$_}[1]] } keys %cases;

my $standin = start_standin(vectors => answers_of(%answers));
my $nginx = start_nginx(conf => llm_conf(
    server => "        gzip off;\n",
    locations => <<'END'));
        location /packs/v1/ {
            llm_budget on;
            llm_budget_limit all key=all usd=1000 per=lifetime;
            gzip on;
            gzip_types application/json text/event-stream;
            gzip_min_length 1;
            proxy_pass http://standin/v1/;
            proxy_http_version 1.1;
        }
END

for my $name (sort keys %cases) {
    my ($encoding, $bytes, $streamed, $read) = @{$cases{$name}};
    my $flags = $name eq 'short' ? 'usage_broken' : 'compressed';

    for my $step (0, 1, 13) {
        next if $step == 1 && length($bytes) > 12000;

        my ($answer, $line) = call('/v1/chat/completions',
            chat($streamed ? (stream => \1) : ()), billed => 0, standin =>
            "vector=$name:0; gzip=1" . ($step ? "; pieces=$step" : ''));
        my $how = $step ? ", $step bytes at a time" : '';

        # what came before the break may have been read

        $flags = 'compressed usage_broken'
            if $name eq 'broken' && $line->{flags}[1];

        ok($answer->{body} eq $bytes,
           "$name: the client gets the bytes as they are$how");
        is_line($line, $read
            ? { usage_source => 'provider', end => 'complete',
                cost_nusd => 450_000, flags => '' }
            : { usage_source => 'hold', end => 'complete',
                cost_nusd => $line->{hold_nusd},
                flags => $flags },
            "$name: " . ($read ? 'it is read (T07)'
                               : 'it is charged at the hold (T07)') . $how);
    }
}

# what the provider is asked

for my $accept ('gzip, br, zstd', 'gzip', '*', undef) {
    my ($answer, $line) = call('/v1/chat/completions', chat(), headers =>
        [['Authorization', 'Bearer k1'],
         defined $accept ? ['Accept-Encoding', $accept] : ()],
        standin => 'prompt=100; out=20');
    my $sent = $standin->last_request();

    is($sent->{header}{'accept-encoding'}, 'identity',
       'identity is asked for, whatever the client takes: '
       . ($accept // 'nothing said'));
    is($line->{cost_nusd}, 450_000, '... and the answer is read');
}

# a client may have it compressed by nginx

for my $streamed (0, 1) {
    my ($answer, $line) = call('/packs/v1/chat/completions',
        chat($streamed ? (stream => \1) : ()), headers =>
        { Authorization => 'Bearer k1', 'Accept-Encoding' => 'gzip' },
        standin => 'prompt=100; out=20');
    my $text = '';

    is($answer->{headers}{'content-encoding'}, 'gzip',
       'nginx compresses behind the module' . ($streamed ? ', streams' : ''));
    gunzip(\$answer->{body}, \$text);
    like($text, qr/abc /, '... what it has read');
    unlike($text, qr/"usage":\{/, '... without the usage') if $streamed;
    is($line->{cost_nusd}, 450_000, '... and charged');
}

# aborted while compressed

{
    my ($answer, $line, $bill) = call('/v1/chat/completions',
        chat(stream => \1, max_tokens => 400,
             stream_options => { include_usage => \1 }),
        standin => 'out=200; count=body; wait_after=5; gzip=1',
        abort_after => 300);

    is_line($line, { usage_source => 'estimated', end => 'aborted',
        output_tokens => 5, cost_nusd => $bill->{billed_nusd} },
        'a compressed stream that is left is paid to there (T03, T07)');
}

agree('the ledger is the sum of the usage log');
$nginx->stop();
done_testing();
