#!/usr/bin/perl

# Copyright (C) the ngx_http_llm_budget_module authors

# The usage frame that the module asks for is read and taken out again, and
# nothing else is: the client's bytes are the provider's minus that frame,
# however they are cut (T08, T09).

use strict;
use warnings;

use FindBin;
use JSON::PP;
use Test::More;

use lib "$FindBin::Bin/lib";
use LLMBudget;
use Metered;

need_module();

use constant COST => 100 * 2500 + 20 * 10000;

my $usage = '"usage":{"prompt_tokens":100,"completion_tokens":20,'
    . '"total_tokens":120}';
my $frame = qq({"id":"c1","model":"m-std","choices":[],$usage});

sub delta
{
    my ($text, $more) = @_;

    return '{"id":"c1","model":"m-std","choices":[{"index":0,"delta":'
        . qq({"content":"$text"}}]) . ($more // '') . '}';
}

# name => [before the frame, the frame, behind it]; a line is "data: ..."

# more text than the usage has tokens for: no estimate may come in its place

my $start = 'data: ' . delta('Hello' . ' world' x 40) . "\n\n" . 'data: '
    . delta(' world \u007b', ',"usage":null') . "\n\n";
my $done = "data: [DONE]\n\n";
my %texts = (
    plain => [$start, "data: $frame\n\n", $done],
    bare => [$start, "data:$frame\n\n", "data:[DONE]\n\n"],
    named => ["event: chunk\n$start", "event: chunk\nid: 7\ndata: $frame\n\n",
              $done],
    comment => [": hello\n\n$start", ": last\ndata: $frame\n\n",
                ": bye\n\n$done"],
    lines => [$start, 'data: {"choices":[],' . "\ndata: $usage}\n\n", $done],
    front => [$start, 'data: {' . "$usage" . ',"choices":[]}' . "\n\n",
              $done],
    spaced => [$start, "data: { \"choices\" : [ ] , $usage }\n\n", $done],
    padded => [$start, 'data: {"pad":"' . 'x' x 3000 . '","choices":[],'
               . "$usage}\n\n", $done],
    twice => [$start, "data: $frame\n\ndata: $frame\n\n", $done],
    open => [$start, "data: $frame\n", ''],
    ended => [$start, "data: $frame\n\n", ''],
    preamble => ['data: {"choices":[],"model":"","prompt_filter_results":[]}'
                 . "\n\ndata:\n\n$start", "data: $frame\n\n", $done],
    behind => [$start, "data: $frame\n\n",
               'data: {"choices":[],"usage":null}' . "\n\n$done"],

    # no such frame: nothing to take out

    content => [$start . 'data: ' . delta('', ",$usage") . "\n\n", '', $done],
    bare_usage => [$start . "data: {$usage}\n\n", '', $done],
    huge => [$start . 'data: {"pad":"' . 'x' x 9000 . '","choices":[],'
             . "$usage}\n\n", '', $done],
);

my %answers;

for my $name (keys %texts) {
    my %eol = (lf => "\n", crlf => "\r\n", cr => "\r");

    for my $kind (keys %eol) {
        my $text = join('', @{$texts{$name}});

        $text =~ s/\n/$eol{$kind}/g;
        $answers{"$name-$kind"} = [{ 'content-type' => 'text/event-stream' },
                                   $text];
    }
}

my $standin = start_standin(vectors => answers_of(%answers));
my $nginx = start_nginx(conf => llm_conf(
    locations => <<'END'));
        location /off/v1/ {
            llm_budget on;
            llm_budget_inject_usage off;
            llm_budget_limit all key=all usd=1000 per=lifetime;
            proxy_pass http://standin/v1/;
            proxy_http_version 1.1;
        }
END

my @steps = (0, 1, 2, 5, 17, 64, 1000);

for my $name (sort keys %answers) {
    my ($kind) = $name =~ /-(\w+)$/;
    my $text = $texts{$name =~ s/-\w+$//r};
    my $all = $answers{$name}[1];
    my $less = "$text->[0]$text->[2]";
    my %eol = (lf => "\n", crlf => "\r\n", cr => "\r");
    my @wrong;

    $less =~ s/\n/$eol{$kind}/g;

    for my $asks (0, 1) {
        for my $step (@steps) {
            next if $step && $step < 5 && length($all) > 2000;

            my ($answer, $line) = stream($asks, "vector=$name:0"
                . ($step ? "; pieces=$step" : ''));
            my $want = $asks ? $all : $less;
            my $how = "pieces=$step asks=$asks";

            push @wrong, "$how: got \"" . visible($answer->{body}) . "\""
                if $answer->{body} ne $want;
            push @wrong, "$how: truncated" if $answer->{truncated};
            push @wrong, "$how: Content-Length"
                if defined $answer->{headers}{'content-length'};
            push @wrong, "$how: cost $line->{cost_nusd} end $line->{end}"
                . " source $line->{usage_source}"
                if $line->{cost_nusd} != COST || $line->{end} ne 'complete'
                || $line->{usage_source} ne 'provider';
        }
    }

    ok(!@wrong, "$name: all but the injected usage frame reaches the client "
       . "(T09)") or diag(join("\n", splice(@wrong, 0, 3)));
}

# what is asked for on the way

my $asked = { include_usage => JSON::PP::true };

for my $case (
    [{}, $asked, 'nothing'],
    [{ stream_options => undef }, $asked, 'null'],
    [{ stream_options => {} }, $asked, 'no options'],
    [{ stream_options => { include_usage => \0 } }, $asked, 'false'],
    [{ stream_options => { include_obfuscation => \0 } },
     { include_obfuscation => JSON::PP::false, %$asked }, 'something else'],
    [{ stream_options => { include_usage => \1 } }, $asked, 'true', 1],
) {
    my ($members, $want, $said, $gets) = @$case;
    my ($answer, $line) = call('/v1/chat/completions',
        chat(stream => \1, %$members), standin => 'prompt=100; out=20');
    my $sent = decode_json($standin->last_request()->{body});

    is_deeply($sent->{stream_options}, $want,
              "a client that says $said: usage is asked for (T08)");
    is($answer->{body} =~ /"usage":\{/ ? 1 : 0, $gets // 0,
       $gets ? '... and gets it' : '... and does not get it (T09)');
    like($answer->{body}, qr/data: \[DONE\]\n\n\z/, '... but [DONE]');
    is($line->{cost_nusd}, COST, '... and the usage is charged');
}

for my $path ('/v1/responses', '/v1/messages') {
    my ($answer, $line) = call($path, { model => 'm-std', stream => \1,
        max_tokens => 100, input => 'abcd', messages => chat()->{messages} },
        standin => 'prompt=100; out=20');

    is(decode_json($standin->last_request()->{body})->{stream_options},
       undef, "$path has usage in its streams: nothing is asked for");
    is($line->{cost_nusd}, COST, '... and it is charged');
}

{
    my ($answer, $line) = call('/off/v1/chat/completions', chat(stream => \1),
                               standin => 'prompt=100; out=20');

    unlike($standin->last_request()->{body}, qr/stream_options/,
           'with llm_budget_inject_usage off nothing is asked for (T08)');
    is_line($line, { usage_source => 'hold', end => 'complete',
                     cost_nusd => $line->{hold_nusd} },
            '... and without usage the hold is charged');
}

# a stream that breaks off: the client has every byte that came

my $text = $answers{'plain-crlf'}[1];
my $whole = length("$texts{plain}[0]$texts{plain}[1]" =~ s/\n/\r\n/gr);
my $gone = $texts{plain}[1] =~ s/\n/\r\n/gr;
my $from = $whole - length($gone) - 60;
my @wrong;

for (my $cut = $from; $cut < length($text); $cut += 3) {
    for my $step (0, 1) {
        my ($answer, $line) = stream(0, "vector=plain-crlf:0; cut=$cut"
                                     . ($step ? '; pieces=97' : ''));
        my $want = substr($text, 0, $cut);

        # the frame is over at the CR of its blank line

        if ($cut >= $whole - 1) {
            substr($want, $whole - length($gone), length($gone), '');
        }

        push @wrong, "cut=$cut: got \"" . visible($answer->{body}) . "\""
            if $answer->{body} ne $want;
        push @wrong, "cut=$cut: not truncated" unless $answer->{truncated};
        push @wrong, "cut=$cut: end $line->{end}"
            if $line->{end} ne ($want =~ /\[DONE\]/ ? 'complete'
                                                   : 'upstream_cut');
        push @wrong, "cut=$cut: cost $line->{cost_nusd}"
            if $cut >= $whole - 1 && $line->{cost_nusd} != COST;
    }
}

ok(!@wrong, 'a stream that breaks off loses nothing on the way')
    or diag(join("\n", splice(@wrong, 0, 3)));

agree('the ledger is the sum of the usage log');
$nginx->stop();
done_testing();


sub stream
{
    my ($asks, $controls) = @_;

    return call('/v1/chat/completions', chat(stream => \1,
        $asks ? (stream_options => { include_usage => \1 }) : ()),
        standin => $controls, billed => 0);
}


sub visible
{
    my ($text) = @_;

    $text = '...' . substr($text, -300) if length($text) > 300;

    return $text =~ s/\r/\\r/gr =~ s/\n/\\n/gr;
}
