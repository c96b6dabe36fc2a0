#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# What is sent is what the client wrote, but for the edits: byte for byte, in
# one framing, however the body came (T08, T36, T55).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP ();
use Test::More;

use LLMBudget;


need_module();

my $standin = start_standin();

my $nginx = start_nginx(conf => llm_conf(
    server => <<'END',
        listen 127.0.0.1:%%PORT2%% http2;
        client_body_buffer_size 4k;
END
    locations => join('',
        location('cheap', 'llm_budget_degrade at=0% m-std=m-mini c-std=x-std'
                          . ' m-nomax=g-std;'),
        location('ten', 'llm_budget_degrade at=0% m-std=m-mini;',
                 'proxy_http_version 1.0;'),
        location('drop', 'llm_budget_degrade at=0% m-std=m-mini'
                         . ' drop=reasoning_effort,temperature,top_p;'),
        location('options', 'llm_budget_degrade at=0% m-std=m-mini'
                            . ' drop=stream_options;'),
        location('cap', 'llm_budget_degrade at=0% m-std=m-mini'
                        . ' max_output=50 drop=reasoning_effort;'),
        location('off', 'llm_budget_inject_usage off;'))));

my $key = { Authorization => 'Bearer k1' };
my $chat = '/v1/chat/completions';
my $http2 = qx(curl -V 2>/dev/null) =~ /HTTP2/;
my $billed = 0;                 # by the stand-in, which is reset each time
my $sock;


# another model: longer, as long, shorter, in every form

for my $case (['m-std', 'm-mini'], ['c-std', 'x-std'], ['m-nomax', 'g-std']) {
    my ($from, $to) = @$case;

    for my $size (0, 3800, 20_000) {
        my @text = map {
            qq( {"max_tokens" : 9,\n"messages":[{"role":"user","content":")
            . qq(\\"model\\":\\"$from\\" {'model':'$from'} ) . 'x' x $size
            . qq("}],"metadata":{"model":"$from"},\t"model":"$_","n":1}\n )
        } $from, $to;

        for my $form (['with a length', {}], ['in chunks', { chunked => 1000 }],
                      ['in one chunk', { chunked => 100_000 }],
                      ['in small chunks', { chunked => 10 }],
                      ['to HTTP/1.0', {}, '/ten'])
        {
            my ($name, $opt, $place) = @$form;

            next if $place && $from ne 'm-std';

            sent(($place // '/cheap') . $chat, $text[0], $text[1],
                 "T36: $from to $to, $size bytes $name", %$opt);
        }

        next unless $http2;

        curl("/cheap$chat", $text[0], '--data-binary', '@-');
        seen($text[1], "T36: $from to $to, $size bytes over HTTP/2");
        curl("/cheap$chat", $text[0], '-X', 'POST', '-T', '-');
        seen($text[1], "T36: $from to $to, $size bytes over HTTP/2 without"
             . ' a length');
    }
}

sent("/cheap$chat",
     '{"mod\u0065l":"m-\u0073td","max_tokens":9,"messages":[]}',
     '{"mod\u0065l":"m-mini","max_tokens":9,"messages":[]}',
     'T33: an escaped model is found and replaced');


# usage is asked for (T08)

for my $case (
    ['absent', '', '', '"stream_options":{"include_usage":true},'],
    ['null', ',"stream_options":null',
     ',"stream_options":{"include_usage":true}'],
    ['empty', ',"stream_options":{}',
     ',"stream_options":{"include_usage":true}'],
    ['empty with a space', ',"stream_options": { }',
     ',"stream_options": {"include_usage":true }'],
    ['false', ',"stream_options":{"include_usage":false}',
     ',"stream_options":{"include_usage":true}'],
    ['true', ',"stream_options":{"include_usage" : true}',
     ',"stream_options":{"include_usage" : true}'],
    ['obfuscation', ',"stream_options":{ "include_obfuscation":false}',
     ',"stream_options":{"include_usage":true, "include_obfuscation":false}'],
    ['obfuscation and false', ',"stream_options":{"include_obfuscation":true,'
     . '"include_usage":false}',
     ',"stream_options":{"include_obfuscation":true,"include_usage":true}'],
    ['obfuscation and true', ',"stream_options":{"include_usage":true,'
     . '"include_obfuscation":true}',
     ',"stream_options":{"include_usage":true,"include_obfuscation":true}'])
{
    my ($name, $given, $want, $head) = @$case;
    my $members = '"model":"m-std","max_tokens":9,"messages":[],'
                  . '"stream":true';

    $head //= '';

    for my $opt ({}, { chunked => 7 }) {
        sent($chat, "{$members$given}", "{$head$members$want}",
             "T08: stream_options $name" . (%$opt ? ' in chunks' : ''), %$opt);
    }

    sent("/off$chat", "{$members$given}", "{$members$given}",
         "llm_budget_inject_usage off: stream_options $name as it is",
         standin => 'usage=every');
    sent("/cheap$chat", "{$members$given}",
         do { my $t = "{$head$members$want}"; $t =~ s/m-std/m-mini/; $t },
         "T08, T36: stream_options $name with another model");
    sent("/options$chat", "{$members$given}",
         '{"stream_options":{"include_usage":true},' . $members =~ s/std/mini/r
         . '}', "T08, T55: stream_options $name that a rung drops");
}

sent('/v1/completions', '{"model":"m-std","max_tokens":9,"prompt":"abcd",'
     . '"stream":true}', '{"stream_options":{"include_usage":true},"model":'
     . '"m-std","max_tokens":9,"prompt":"abcd","stream":true}',
     'T08: a stream of completions is asked for usage');

for my $case (
    ['/v1/responses', '{"model":"m-std","max_output_tokens":20,'
     . '"input":"abcd","stream":true}'],
    ['/v1/messages', '{"model":"c-std","max_tokens":9,"messages":[],'
     . '"stream":true}'],
    [$chat, '{"model":"m-std","max_tokens":9,"messages":[],"stream":false}'],
    [$chat, '{"model":"m-std","max_tokens":9,"messages":[],"stream":null}'],
    ['/v1/embeddings', '{"model":"m-embed","input":"abcd"}'])
{
    sent(@$case, $case->[1], "T08: \"$case->[0]\" is left alone");
}


# ceilings

for my $case (
    [$chat, '"messages":[]', '"max_completion_tokens":4096,', ''],
    [$chat, '"messages":[],"max_tokens":null',
     '"max_completion_tokens":4096,', ''],
    [$chat, '"messages":[],"max_completion_tokens":null', '',
     's/null/4096/'],
    ['/v1/responses', '"input":"abcd"', '"max_output_tokens":4096,', ''],
    ['/v1/responses', '"input":"abcd","max_output_tokens": null ', '',
     's/null/4096/'])
{
    my ($path, $members, $head, $change) = @$case;
    my $text = "{\"model\":\"m-nomax\",$members}";
    my $want = $text;

    eval "\$want =~ $change" if $change;
    $want =~ s/^\{/{$head/;

    sent($path, $text, $want, "T20: $path with $members is given a ceiling");
}

for my $case (
    ['"max_tokens":100', 's/100/50/'],
    ['"max_tokens":100,"max_completion_tokens":80', 's/100|80/50/g'],
    ['"max_tokens":null,"max_completion_tokens":80', 's/80/50/'],
    ['"max_tokens":10', 's/x/x/'],
    ['"n":1', 's/\{/{"max_completion_tokens":50,/'],
    ['"reasoning_effort":"low","n":1',
     's/"reasoning_effort":"low",/"max_completion_tokens":50,/'])
{
    my ($members, $change) = @$case;
    my $text = "{$members,\"model\":\"m-std\",\"messages\":[]}";
    my $want = $text =~ s/m-std/m-mini/r;

    eval "\$want =~ $change";
    sent("/cap$chat", $text, $want, "T55: max_output=50 where it was"
         . " $members");
}


# dropped members: the first, one in the middle, the last, several, all

for my $case (
    ['{"top_p":1,"model":"m-std","n":1,"messages":[]}',
     '{"model":"m-mini","n":1,"messages":[]}'],
    ['{"model":"m-std","top_p":1,"n":1,"messages":[]}',
     '{"model":"m-mini","n":1,"messages":[]}'],
    ['{"model":"m-std","n":1,"messages":[],"top_p":1}',
     '{"model":"m-mini","n":1,"messages":[]}'],
    ['{"top_p":1,"temperature":1,"model":"m-std","n":1,"messages":[]}',
     '{"model":"m-mini","n":1,"messages":[]}'],
    ['{"model":"m-std","n":1,"messages":[],"top_p":1,"temperature":0.1}',
     '{"model":"m-mini","n":1,"messages":[]}'],
    ['{"reasoning_effort":"low","model":"m-std","top_p":1,"n":1,"messages":'
     . '[],"temperature":1}',
     '{"model":"m-mini","n":1,"messages":[]}'],
    [qq({ "top_p" : [1,{"a":","}] ,\n"model":"m-std" , "temperature":\t1 ,)
     . '"n":1,"messages":[] , "reasoning_effort" : "}" }',
     '{"model":"m-mini","n":1,"messages":[]}'],
    ['{"t\u006fp_p":1,"model":"m-std","n":1,"messages":[{"role":"user",'
     . '"content":"\"top_p\":1,"}],"metadata":{"top_p":1}}',
     '{"model":"m-mini","n":1,"messages":[{"role":"user",'
     . '"content":"\"top_p\":1,"}],"metadata":{"top_p":1}}'])
{
    my ($text, $want) = @$case;

    for my $stream (0, 1) {
        my ($in, $out) = ($text, $want);

        if ($stream) {
            s/"n":1/"stream":true/ for $in, $out;
            $out =~ s/^\{/{"stream_options":{"include_usage":true},/;
        }

        sent("/drop$chat", $in, $out,
             'T55: dropped from ' . $in =~ tr/\n\t/  /r,
             loose => 1);
        sent("/drop$chat", $in, $out, "T55: ... in chunks",
             loose => 1, chunked => 3);
    }
}

{
    my $got = balances();

    is($got->{pending}, 0, 'no hold is pending');
    is($got->{held}, 0, 'no account holds anything');
    is($got->{lines}, $got->{wanted}, 'every request has its usage line');
    is($got->{spent}, $billed, 'the ledger is what was billed');
    is($got->{log}, $billed, 'the usage log is what was billed');
    cmp_ok($billed, '>', 0, 'which is something');
}

$nginx->stop();
done_testing();


sub location
{
    my ($name, $text, $more) = @_;

    $more //= 'proxy_http_version 1.1; proxy_set_header Connection "";';

    return <<"END";
        location /$name/ {
            llm_budget on;
            llm_budget_limit all key=all usd=1000 per=lifetime;
            $text
            $more
            proxy_pass http://standin;
        }
END
}


# Posts a body, one request after the other on one connection, which also
# tells that each was taken from it as a whole.

sub sent
{
    my ($path, $text, $want, $title, %opt) = @_;

    my $answer = post_json($path, $text, headers => $key, keep => 1,
                           ($sock ? (sock => $sock) : ()), %opt);

    $sock = ($answer->{headers}{connection} // '') eq 'close'
            ? undef : $answer->{sock};

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    is($answer->{status}, 200, $title);
    seen($want, '... is sent with what was to change', %opt);
}


# one test: the last request's body and framing; loose: but for spaces

sub seen
{
    my ($want, $title, %opt) = @_;

    my ($seen) = $standin->requests();
    my $stats = wait_for(sub {
        my $stats = $standin->stats();
        return $stats->{in_flight} ? undef : $stats;
    });
    my @lengths = map { $_->[1] }
                  grep { lc $_->[0] eq 'content-length' }
                  @{$seen->{headers}};

    $billed += $stats->{billed_nusd};
    $standin->reset();

    my $body = $seen->{body};
    my $data = eval { JSON::PP->new->utf8->decode($body) };

    $body = JSON::PP->new->canonical->encode($data) if $opt{loose} && $data;
    $want = JSON::PP->new->canonical->encode(JSON::PP->new->decode($want))
        if $opt{loose};

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    is_deeply({ body => $body, json => defined $data, lengths => \@lengths,
                chunked => $seen->{header}{'transfer-encoding'} },
              { body => $want, json => 1,
                lengths => [$seen->{body_length}], chunked => undef },
              $title);
}


sub curl
{
    my ($path, $body, @args) = @_;

    my $file = write_file("$nginx->{dir}/body", $body);
    my $port = $nginx->port_of('PORT2');
    my $args = join(' ', map { "'$_'" } @args);

    $LLMBudget::MADE++;

    return qx(curl -s -m 10 --http2-prior-knowledge -o /dev/null \\
        -w '%{http_code}' -H 'Authorization: Bearer k1' \\
        -H 'Content-Type: application/json' $args \\
        'http://127.0.0.1:$port$path' < '$file');
}
