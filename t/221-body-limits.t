#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# Bodies that are too large, too deep or too odd are refused in the client's
# dialect, quickly, and cost nothing (T34, T61).


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
        client_max_body_size 6m;
        client_body_buffer_size 64k;
END
    locations => join('',
        location('nginx', 'client_max_body_size 100k;'),
        location('ours', 'llm_budget_max_body 100k;'),
        location('file', 'llm_budget_max_body 100k;'
                         . ' client_body_buffer_size 1k;'))));

my ($worker) = $nginx->workers();
my %key = (Authorization => 'Bearer k1');
my $http2 = qx(curl -V 2>/dev/null) =~ /HTTP2/;
my $empty = length(body(0));


# 413, whoever's limit it is and however the body comes

for my $place (qw(/nginx /ours /file)) {

    for my $case (['/v1/chat/completions', 'error'],
                  ['/v1/messages', 'type'])
    {
        my ($path, $first) = @$case;

        for my $opt ({}, { chunked => 5000 }) {
            my $how = "$place$path" . (%$opt ? ' in chunks' : '');
            my $answer = post_json("$place$path", body(102_400 - $empty),
                                   headers => \%key, %$opt, keep => 1);

            isnt($answer->{status}, 413, "T61: 100k pass: $how");

            $answer = post_json("$place$path", body(102_401 - $empty),
                                headers => \%key, %$opt, keep => 1);

            is($answer->{status}, 413, "T61: one byte more does not: $how");
            is($answer->{headers}{'content-type'}, 'application/json',
               '... and the answer is JSON');
            is($answer->{headers}{connection}, 'close',
               '... and the last one of the connection');

            my $data = json($answer);

            is($data->{error}{code}, 'request_too_large', '... by its code');
            ok($first eq 'type' ? $data->{type} eq 'error'
                                : !exists $data->{type},
               '... in the client\'s dialect');
        }
    }

    # a chunked body whose end is not in sight

    my $part = sprintf("%x\r\n%s\r\n", 60_000, 'a' x 60_000);
    my $head = request_text('POST', "$place/v1/chat/completions",
        headers => { %key, 'Transfer-Encoding' => 'chunked',
                     'Content-Type' => 'application/json' }, keep => 1);

    $LLMBudget::MADE++;

    my $answer = send_raw([$head, $part, $part, $part], gap => 20);

    is($answer->{status}, 413, "T61: an endless body is cut: $place");
    is(json($answer)->{error}{code}, 'request_too_large', '... in JSON');

    next unless $http2;

    for my $args ('--data-binary @-', '-X POST -T -') {
        # curl may drop an answer that comes while it is still sending

        my $before = $standin->stats()->{requests};
        my $out = curl("$place/v1/chat/completions",
                       body(102_401 - $empty), $args);

        like($out, qr/ (413|000)$/, "T61: over HTTP/2: $place $args");
        is($standin->stats()->{requests}, $before,
           'T61: ... nothing was sent on');
    }
}

{
    my $answer = post_json('/v1/chat/completions', body(5_000_000),
                           headers => \%key);

    is($answer->{status}, 200, 'T61: a large body passes where it may');
}


# what would exhaust a parser (T34)

my $million = 1_000_000;

for my $case (
    ['a million brackets', '[' x $million],
    ['a million objects', '{"a":' x $million],
    ['a million brackets as a value',
     '{"model":"m-std","messages":' . '[' x $million . ']' x $million . '}'],
    ['65 levels', '{"model":"m-std","messages":' . '[' x 64 . ']' x 64 . '}'],
    ['200,000 members', '{' . join(',', map { "\"a$_\":1" } 1 .. 200_000)
     . ',"model":"m-std","messages":[]}'],
    ['800,000 times one member', '{' . '"a":1,' x 800_000
     . '"model":"m-std","model":"m-std"}'],
    ['a key of a megabyte, twice a model', '{"' . 'k' x $million
     . '":1,"model":"m-std","model":"m-std"}'],
    ['a string that never ends', '{"model":"' . 'm' x $million],
    ['a number that never ends', '{"n":' . '1' x $million . '}'],
    ['nothing but spaces', ' ' x $million],
    ['a long model', '{"model":"' . 'm' x 100_000 . '","messages":[]}'],
    ['a bad escape at the end', '{"model":"m-std","messages":["'
     . '\\u0041' x 500_000 . '\\ud800"]}'])
{
    my ($name, $text) = @$case;
    my $answer = post_json('/v1/chat/completions', $text, headers => \%key);

    is($answer->{status}, 400, "T34: $name is refused");
    is(json($answer)->{error}{code}, 'request_invalid', '... in JSON');
    cmp_ok(length($answer->{body}), '<', 1000, '... in a few words');
}

for my $case (
    ['63 levels', '{"model":"m-std","max_tokens":9,"messages":[],"x":'
     . '[' x 62 . ']' x 62 . '}'],
    ['a string of escapes', '{"model":"m-std","max_tokens":9,"messages":'
     . '[{"role":"user","content":"' . '\\u0041\\n' x 400_000 . '"}]}'])
{
    my ($name, $text) = @$case;
    my $answer = post_json('/v1/chat/completions', $text, headers => \%key);

    is($answer->{status}, 200, "T34: $name is read");
}

is_deeply([$nginx->workers()], [$worker], 'T34: the worker lives');

balanced('the books agree');
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
        }
END
}


sub body
{
    my ($size) = @_;

    return '{"model":"m-std","max_tokens":9,"messages":[{"role":"user",'
           . '"content":"' . 'x' x $size . '"}]}';
}


sub json
{
    my ($answer) = @_;

    return eval { JSON::PP->new->utf8->decode($answer->{body}) } // {};
}


sub curl
{
    my ($path, $body, $args) = @_;

    my $file = write_file("$nginx->{dir}/body", $body);
    my $port = $nginx->port_of('PORT2');

    $LLMBudget::MADE++;

    return qx(curl -s -m 10 --http2-prior-knowledge -w ' %{http_code}' \\
        -H 'Authorization: Bearer k1' -H 'Content-Type: application/json' \\
        $args 'http://127.0.0.1:$port$path' < '$file');
}
