#!/usr/bin/perl

# Copyright (C) the ngx_http_llm_budget_module authors

# A provider whose answer is no HTTP, and one with which TLS fails: the hold
# ends, a request that was sent is paid, one that was not is free (T02, T37).

use strict;
use warnings;

use FindBin;
use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Test::More;

use lib "$FindBin::Bin/lib";
use LLMBudget;
use Metered;

need_module();

my $base = "$LLMBudget::BUILD/bad-$$";

qx(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \\
   -days 2 -subj /CN=other -addext subjectAltName=DNS:other \\
   -keyout $base.key -out $base.pem 2>&1);

my %files = map { ("cert.$_" => read_file("$base.$_")) } qw(pem key);

unlink("$base.key", "$base.pem");
plan(skip_all => 'no openssl to make a certificate')
    unless length($files{'cert.pem'} // '');

# answers each request with the text that its X-Answer header has, in hex

my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp',
                                   Listen => 20) or die "listen: $!\n";
my $port = $listen->sockport();
my $test = $$;
my $raw = fork() // die "fork: $!\n";

if ($raw == 0) {
    open(STDOUT, '>', '/dev/null');
    open(STDERR, '>', '/dev/null');
    answer_raw($listen);
    POSIX::_exit(0);
}

close($listen);

my $standin = start_standin();
my $nginx = start_nginx(workers => 2, files => \%files, conf => llm_conf(
    http => <<'END',
    large_client_header_buffers 4 64k;

    server {
        listen 127.0.0.1:%%PORT1%% ssl;
        ssl_certificate      %%DIR%%/cert.pem;
        ssl_certificate_key  %%DIR%%/cert.key;

        location / {
            proxy_pass http://standin;
        }
    }
END
    locations => location('raw', "http://127.0.0.1:$port/v1/",
                          'proxy_read_timeout 5s;')
        . location('plain', 'https://127.0.0.1:%%STANDIN%%/v1/',
                   'proxy_connect_timeout 300ms;')
        . location('any', 'https://127.0.0.1:%%PORT1%%/v1/',
                   'proxy_ssl_session_reuse off;')
        . location('wrong', 'https://127.0.0.1:%%PORT1%%/v1/',
                   'proxy_ssl_verify on; proxy_ssl_name nobody;'
                   . ' proxy_ssl_trusted_certificate %%DIR%%/cert.pem;')
        . location('right', 'https://127.0.0.1:%%PORT1%%/v1/',
                   'proxy_ssl_verify on; proxy_ssl_name other;'
                   . ' proxy_ssl_trusted_certificate %%DIR%%/cert.pem;')));

my $path = '/v1/chat/completions';
my $ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";


# a header that is none: the provider has the request, and may bill it: all of
# it if there is a status that says so

for my $case (
    ['a header line with a zero', "${ok}A: b\0c\r\n\r\n{}"],
    ['a header line without a name', "$ok: b\r\n\r\n{}"],
    ['a header line with a space', "${ok}A b: c\r\n\r\n{}"],
    ['a header line without an end', "${ok}A: b"],
    ['a header that is too long', $ok . 'A: ' . 'b' x 10_000 . "\r\n\r\n{}"],
    ['half a status line', 'HTTP/1.1 2', 1],
    ['nothing', '', 1])
{
    my ($name, $text, $lost) = @$case;

    for my $stream (0, 1) {
        my ($answer, $line) = call("/raw$path", body($stream),
            headers => { Authorization => 'Bearer k1',
                         'X-Answer' => unpack('H*', $text) }, billed => 0);

        is_line($line, { usage_source => $lost ? 'estimated' : 'hold',
            end => 'upstream_lost', status => 502,
            output_tokens => $lost ? 0 : 20 }, "T02, T37: $name costs the "
            . ($lost ? 'prompt' : 'hold') . ", stream $stream");
        cmp_ok($line->{cost_nusd}, '>', 0, '... which is not nothing');
        like($answer->{body}, qr/^\{.*"error"/s,
             '... and the client gets JSON');
    }
}

# what nginx, of one version or another, takes for an answer has a body that
# says nothing of usage

for my $case (
    ['a length that is no number', "${ok}Content-Length: x\r\n\r\n{}"],
    ['two lengths', "${ok}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"],
    ['no header at all', "{\"error\":1}"],
    ['a body without sense', "$ok\r\n\0\1\2 {{{"],
    ['chunks that are none', "${ok}Transfer-Encoding: chunked\r\n\r\nxyz\r\n"],
    ['a chunk that is cut', "${ok}Transfer-Encoding: chunked\r\n\r\nff\r\n{"])
{
    my ($name, $text) = @$case;

    for my $stream (0, 1) {
        my ($answer, $line) = call("/raw$path", body($stream),
            headers => { Authorization => 'Bearer k1',
                         'X-Answer' => unpack('H*', $text) }, billed => 0);

        cmp_ok($line->{cost_nusd}, '>', 0,
               "T02, T59: $name costs something, stream $stream: $line->{end}");
        cmp_ok($line->{cost_nusd}, '<=', $line->{hold_nusd},
               '... and no more than was held');
    }
}

agree('the ledger is the sum of the usage log, nothing is pending');


# TLS that fails: nothing was sent

for my $case (['plain', 'a provider that speaks no TLS', 504],
              ['wrong', 'a certificate of another name', 502])
{
    my ($place, $name, $status) = @$case;
    my $before = spent(ledger());
    my $requests = $standin->stats()->{requests};

    for my $stream (0, 1) {
        my ($answer, $line) = call("/$place$path", body($stream),
                                   billed => 0);

        is_line($line, { usage_source => 'none', end => 'not_sent',
            status => $status, cost_nusd => 0 },
            "T02, T37: $name costs nothing, stream $stream");
        like($answer->{body}, qr/^\{.*"error"/s,
             '... and the client gets JSON');
    }

    is(spent(ledger()), $before, '... in the ledger, too');
    is($standin->stats()->{requests}, $requests,
       '... and no provider has seen it');
}

for my $place (qw(any right)) {
    my ($answer, $line, $bill) = call("/$place$path", body(1));

    is_line($line, { usage_source => 'provider', end => 'complete',
        status => 200, cost_nusd => $bill->{billed_nusd} },
        'with TLS that works it is served and charged');
}

agree('the ledger is the sum of the usage log, nothing is pending');
$nginx->stop();
kill('TERM', $raw);
waitpid($raw, 0);
done_testing();


sub location
{
    my ($name, $pass, $more) = @_;

    return <<"END";
        location /$name/v1/ {
            llm_budget on;
            llm_budget_limit all key=all usd=1000 per=lifetime;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            $more
            proxy_pass $pass;
        }
END
}


sub body
{
    my ($stream) = @_;

    return chat(max_tokens => 20, $stream ? (stream => \1) : ());
}


# One connection after the other.

sub answer_raw
{
    my ($listen) = @_;

    $SIG{PIPE} = 'IGNORE';

    # it ends with the test, however that ends

    while (getppid() == $test) {
        IO::Select->new($listen)->can_read(1) or next;

        my $sock = $listen->accept() or next;
        my ($text, $head) = ('');

        while (sysread($sock, $text, 65536, length($text))) {
            ($head) = $text =~ /^(.*?\r\n)\r\n/s or next;

            my ($length) = $head =~ /^Content-Length: (\d+)/mi;

            last if length($text) >= length($head) + 2 + ($length // 0);
        }

        my ($answer) = ($head // '') =~ /^X-Answer: ?(\w*)/mi;

        LLMBudget::write_all($sock, pack('H*', $answer // ''));
        close($sock);
    }
}
