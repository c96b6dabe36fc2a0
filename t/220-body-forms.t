#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# A request body in every form nginx can hold it is read, judged and passed
# on byte for byte, in one framing (T35, T63).


use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use LLMBudget;


need_module();

my $standin = start_standin();

my $nginx = start_nginx(conf => llm_conf(
    server => <<'END',
        listen 127.0.0.1:%%PORT2%% http2;
        client_body_buffer_size 16k;
        client_max_body_size 8m;
END
    locations => join('',
        location('small', 'client_body_buffer_size 1k;'),
        location('large', 'client_body_buffer_size 8m;'),
        location('file', 'client_body_in_file_only on;'),
        location('single', 'client_body_in_single_buffer on;'),
        location('direct', 'proxy_request_buffering off;'),
        location('hashed', 'llm_budget_limit loop'
                           . ' key=$llm_budget_body_sha256 requests=50 per=lifetime;'),
        location('brief', 'client_body_timeout 200ms;'))));

my $key = { Authorization => 'Bearer k1' };
my $http2 = qx(curl -V 2>/dev/null) =~ /HTTP2/;
my $billed = 0;                 # before the stand-in was reset
my $last;                       # request that it saw
my $rest = length(body(0));


# bodies of many sizes, where each of them ends up elsewhere

for my $place ('', qw(/small /large /file /single /direct /hashed)) {
    my @sizes = $place =~ /large|file|direct/ ? ($rest, 16385)
                                              : ($rest, 1023, 1024, 1025,
                                                 16383, 16384, 16385);

    push @sizes, 100_000 if $place =~ /single|small/;

    for my $size (@sizes) {

        my $body = body($size - $rest);
        my $path = "$place/v1/chat/completions";
        my @forms = (['with a length', {}]);

        push @forms, ['in chunks', { chunked => 4096 }];
        push @forms, ['in chunks of one byte', { chunked => 1 }]
            if $size < 2000;
        push @forms, ['in three pieces', { split => 3 }];

        for my $form (@forms) {
            my ($name, $opt) = @$form;
            my $answer = send_pieces($path, $body, %$opt);

            arrived("$size bytes $name to \"$path\"", $answer->{status},
                    $body);
        }

        next unless $http2 && $size != 1024 && $size != 16384;

        arrived("$size bytes over HTTP/2 to \"$path\"",
                curl($path, $body, '--data-binary', '@-'), $body);

        arrived("$size bytes over HTTP/2 without a length to \"$path\"",
                curl($path, $body, '-X', 'POST', '-T', '-'), $body);
    }
}

{
    my $body = body(2 * 1024 * 1024);

    for my $place ('', '/large') {
        my $path = "$place/v1/chat/completions";
        my $answer = send_pieces($path, $body, split => 7);

        arrived("2 MiB to \"$path\"", $answer->{status}, $body);

        $answer = send_pieces($path, $body, chunked => 100_000);
        arrived("2 MiB in chunks to \"$path\"", $answer->{status}, $body);
    }
}


# as slowly as a client may

{
    my $text = request_text('POST', '/v1/chat/completions', headers => $key,
                            body => body(0));
    my @bytes = split(//, $text);

    $LLMBudget::MADE++;

    my $answer = send_raw([join('', splice(@bytes, 0, -40)), @bytes],
                          gap => 2);

    arrived('a body byte by byte', $answer->{status}, body(0));
}


# short ones

{
    last_seen();

    my $text = request_text('POST', '/v1/chat/completions',
        headers => { %$key, 'Content-Length' => 100 }, body => 'a' x 50);

    $LLMBudget::MADE++;

    my $sock = LLMBudget::connect_to($nginx->{port});

    syswrite($sock, $text);
    shutdown($sock, 1);

    my $answer = send_raw('', sock => $sock);

    ok($answer->{closed}, 'T35: a client that left in its body is done with');

    $LLMBudget::MADE++;
    $text =~ s{/v1}{/brief/v1};
    $answer = send_raw($text);

    ok($answer->{closed}, 'T35: a client that stalls in its body as well');
    is($standin->stats()->{requests}, 0,
       'T35: ... and nothing was sent for them');

    my $ledger = ledger_settled();
    is($ledger->{stat}{pending}, 0, 'T35: ... nor held');
}


# Expect: 100-continue

{
    my $expect = { %$key, Expect => '100-continue' };
    my $body = body(100);
    my $text = request_text('POST', '/v1/chat/completions', body => $body,
                            headers => $expect);
    my ($head) = $text =~ /^(.*?\r\n\r\n)/s;
    my $sock = LLMBudget::connect_to($nginx->{port});

    $LLMBudget::MADE++;
    syswrite($sock, $head);

    my $first = '';

    while ($first !~ /\r\n\r\n/ && sysread($sock, my $part, 1)) {
        $first .= $part;
    }

    is($first, "HTTP/1.1 100 Continue\r\n\r\n",
       'T63: a good key is told to continue');

    my $answer = send_raw($body, sock => $sock);

    arrived('T63: what it sends then', $answer->{status}, $body);
    is($last->{header}{expect}, undef,
       'T63: the provider is asked for no 100');
}

for my $case (
    ['a bad key', '/v1/chat/completions', 401, Authorization => 'Bearer '],
    ['a refused path', '/v1/nothing', 404, %$key],
    ['another type', '/v1/chat/completions', 415, %$key,
     'Content-Type' => 'text/plain'],
    ['a huge length', '/v1/chat/completions', 413, %$key,
     'Content-Length' => 7_000_000_000])
{
    my ($name, $path, $status, %headers) = @$case;
    my $text = request_text('POST', $path, body => body(100), keep => 1,
        headers => { Expect => '100-continue', %headers });
    my ($head) = $text =~ /^(.*?\r\n\r\n)/s;
    my $sock = LLMBudget::connect_to($nginx->{port});

    $LLMBudget::MADE++;

    my $answer = send_raw($head, sock => $sock, keep => 1);

    is($answer->{status}, $status, "T63: $name gets a $status");
    unlike($answer->{raw}, qr/100 Continue/, 'T63: ... and no 100');
    is($answer->{headers}{connection}, 'close',
       'T63: ... and the connection, of which nobody knows whether a body'
       . ' will come, is closed');
    close($sock);
}

{
    my $files = sub { scalar(() = glob("$nginx->{dir}/tmp/client_body/*")) };
    my $before = $files->();

    post_json('/file/v1/chat/completions', body(20_000),
              headers => { Authorization => 'Bearer ' });
    is($files->(), $before, 'T63: the body of a bad key fills no file');

    post_json('/file/v1/chat/completions', body(100_000), headers => $key);
    is($files->(), $before + 1, 'T63: ... as that of a good key does here');
}


# a second request on the connection, and one that came with the first

{
    my $path = '/v1/chat/completions';
    my $answer = post_json($path, body(10), headers => $key, keep => 1,
                           chunked => 7);
    my $sock = $answer->{sock};

    is($answer->{status}, 200, 'a first request on a connection');

    $answer = post_json($path, body(20), headers => $key, sock => $sock);
    arrived('a second request on it', $answer->{status}, body(20));

    $LLMBudget::MADE += 3;

    $answer = send_raw(
        request_text('POST', $path, body => body(30), headers => $key,
                     keep => 1)
        . request_text('POST', $path, body => body(40), headers => $key,
                       keep => 1, chunked => 5)
        . request_text('POST', $path, body => body(50), headers => $key),
        keep => 1);
    is($answer->{status}, 200, 'the first of three pipelined requests');

    $answer = send_raw('', sock => $answer->{sock}, keep => 1);
    is($answer->{status}, 200, '... the second');

    $answer = send_raw('', sock => $answer->{sock});
    is($answer->{status}, 200, '... and the third are served');

    is_deeply([map { $_->{body} } $standin->requests()],
              [body(30), body(40), body(50)], '... each with its body');
}

SKIP: {
    skip('no curl with HTTP/2', 1) unless $http2;
    pass('HTTP/2 was tried');
}

{
    my $got = balances();

    last_seen();

    is($got->{pending}, 0, 'no hold is pending');
    is($got->{lines}, $got->{wanted}, 'every request has its usage line');
    is($got->{spent}, $billed, 'the ledger is what was billed');
    is($got->{log}, $billed, 'the usage log is what was billed');
}

$nginx->stop();
done_testing();


sub location
{
    my ($name, $text) = @_;

    return <<"END";
        location /$name/ {
            llm_budget on;
            llm_budget_limit all key=all usd=1000 per=lifetime;
            $text
            proxy_pass http://standin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
END
}


sub body
{
    my ($size) = @_;

    return '{"messages":[{"role":"user","content":"abcd' . 'x' x $size
           . '"}],"model":"m-std","max_tokens":9}';
}


# split => N: the body in N pieces

sub send_pieces
{
    my ($path, $body, %opt) = @_;

    my $text = request_text('POST', $path, headers => $key, body => $body,
                            %opt);
    my @pieces = ($text);

    if ($opt{split}) {
        my ($head) = $text =~ /^(.*?\r\n\r\n)/s;
        my $step = int(length($body) / $opt{split}) + 1;

        @pieces = ($head);

        for (my $i = 0; $i < length($body); $i += $step) {
            push @pieces, substr($body, $i, $step);
        }
    }

    $LLMBudget::MADE++;

    return send_raw(\@pieces, gap => 1);
}


sub curl
{
    my ($path, $body, @args) = @_;

    my $file = write_file("$nginx->{dir}/body", $body);
    my $port = $nginx->port_of('PORT2');
    my $args = join(' ', map { "'$_'" } @args);

    $LLMBudget::MADE++;

    my $out = qx(curl -s -m 10 --http2-prior-knowledge -o /dev/null \\
        -w '%{http_code} %{http_version}' -H 'Authorization: Bearer k1' \\
        -H 'Content-Type: application/json' $args \\
        'http://127.0.0.1:$port$path' < '$file');

    return $out =~ /^(\d+) 2$/ ? $1 : $out;
}


# The last request that the stand-in saw.  It forgets them all, since reading
# many large ones takes long.

sub last_seen
{
    wait_for(sub { $standin->stats()->{in_flight} == 0 });

    $last = $standin->last_request();
    $billed += $standin->stats()->{billed_nusd};
    $standin->reset();

    return $last;
}


# one test: served, and the provider got these bytes in one framing

sub arrived
{
    my ($title, $status, $body) = @_;

    my $seen = last_seen();
    my @lengths = map { $_->[1] }
                  grep { lc $_->[0] eq 'content-length' }
                  @{$seen->{headers}};

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    is_deeply({ status => $status, sha256 => $seen->{body_sha256},
                length => \@lengths,
                chunked => $seen->{header}{'transfer-encoding'} },
              { status => 200, sha256 => sha256_hex($body),
                length => [length($body)], chunked => undef },
              $title);
}
