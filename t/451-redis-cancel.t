#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# Thousands of requests wait for Redis and leave at once, most of them: late
# answers meet no request that is gone, nobody gets the answer of another, no
# hold is left, and the worker is as large as before (T52).  Also when the
# connection dies instead, and when more wait than may.  LLMB_CANCEL=10000: so
# many.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Select;
use POSIX ();
use Test::More;

use LLMBudget;
use LLMBudgetRedis;


# what may wait at one connection: NGX_HTTP_LLM_BUDGET_REDIS_QUEUE

use constant { CROWD => $ENV{LLMB_CANCEL} || 2000, QUEUE => 8192,
               SOCKETS => 500, STREAMS => 100 };

# types of frames of HTTP/2, and flags

use constant { DATA => 0, HEADERS => 1, RST => 3, SETTINGS => 4,
               END_STREAM => 1, END_HEADERS => 4, CANCEL => 8 };

need_module();
need_redis();
delete $ENV{LLMB_STORE};

my $files = qx(sh -c 'ulimit -Hn') =~ /(\d+)/ ? $1 : 1e9;

plan(skip_all => "no more than $files files may be open")
    if $files < CROWD + 2000;

my $standin = start_standin();
my ($http2) = check_conf(llm_conf(server =>
                                  '        listen 127.0.0.1:%%PORT2%% http2;'));
my $body = '{"model":"m-std","max_tokens":4,"messages":'
         . '[{"role":"user","content":"abcd"}]}';

my ($redis, $nginx, $port, $sanitized);
my @PIPES;                      # to the clients' processes


# --------------------------------------------------- answers that are late

subtest 'late answers' => sub {
    begin();

    my @size;

    for my $round (1 .. 3) {
        round("round $round", CROWD);
        push @size, size();
    }

    SKIP: {
        skip('the sanitizer keeps what was freed', 1) if $sanitized;

        # half of what one operation takes, for each of them

        cmp_ok($size[2] - $size[1], '<', CROWD * 600,
               'the worker is not larger than before')
            or diag("bytes: @size");
    }

    end();
};


# ----------------------------------------------- connections that are lost

subtest 'lost connections' => sub {
    begin();

    my @crowd = gather(CROWD);

    leave(@crowd);
    $redis->kill9();
    $redis->start_again();

    my %got = left(@crowd);

    is(join(' ', grep { !/^(?:rich (?:200|503)|poor (?:429|503))$/ }
            sort keys %got), '',
       'those who stay get their own answer, or none');
    settled();

    end(allow => qr/is down/);
};


# ------------------------------------------------------ more than may wait

subtest 'more than may wait' => sub {
    plan(skip_all => 'nginx has no HTTP/2') unless $http2;

    begin(connections => 1);

    my $more = 50;
    my @crowd = gather(QUEUE + $more, http2 => 1);
    my @lines = usage_lines();

    shift(@lines);

    is_deeply([map { $_->{code} } @lines], [('store_unavailable') x $more],
              'so many wait, and the others are refused at once');

    my $answer = call();

    is($answer->{status}, 503, 'as is who comes now');
    is($answer->{headers}{'x-llm-budget-code'}, 'store_unavailable', 'for it');
    is($answer->{headers}{'x-should-retry'}, 'true',
       'and may try again (T42)');

    leave(@crowd);
    $redis->resume();
    left(@crowd);

    ok(wait_for(sub { call()->{status} == 200 }, 60), 'then there is room');
    settled();

    end();
};

done_testing();


# One worker, with its Redis paused.

sub begin
{
    my (%opt) = @_;

    my $connections = $opt{connections} // 2;
    my $room = CROWD + 2000;

    $standin->reset();
    $LLMBudget::MADE = 0;

    $redis = start_redis(appendonly => 1);
    $nginx = start_nginx(workers => 1, log_level => 'notice', conf => llm_conf(
        redis => $redis->url() . " timeout=60s connections=$connections",
        main => "worker_rlimit_nofile $room;\n"
                . "events {\n    worker_connections $room;\n}\n",
        server => ($http2 ? '        listen 127.0.0.1:%%PORT2%% http2;' : '')
                  . "\n        client_body_timeout 60s;\n",
        limit => ['all key=all usd=1000 per=lifetime',
                  'poor key=$http_x_poor usd=0.000001 per=lifetime'],
        locations => "        location = /up {\n            return 204;\n"
                     . "        }\n"));

    my ($worker) = $nginx->workers();

    $sanitized = read_file("/proc/$worker/maps") =~ /libasan/;
    $port = $nginx->{port};

    is(call()->{status}, 200, 'a call is served');
    settled();
}


sub end
{
    my (%opt) = @_;

    balanced('the books agree', wait => 30);
    $nginx->stop(wait => 60, %opt);
    $redis->stop();
}


# So many come, most of them leave, and Redis answers.

sub round
{
    my ($title, $n) = @_;

    my $before = ledger()->{stat};
    my @crowd = gather($n);
    my ($stay, $poor) = (0, 0);

    for my $i (0 .. $n - 1) {
        $stay++ if kind($i) eq 'rich';
        $poor++ if kind($i) eq 'poor';
    }

    leave(@crowd);
    $redis->resume();

    my %got = left(@crowd);

    is_deeply(\%got, { 'rich 200' => $stay, 'poor 429' => $poor },
              "$title: those who stay get their own answer");

    my $after = settled();

    is($after->{opened} - $before->{opened}, left_calls($n) + $stay,
       "$title: all others were opened");
    is($after->{voided} - $before->{voided}, left_calls($n),
       '... and voided, as nobody was there');
}


# What the client with that number is: one that stays, with money or without,
# one that leaves, by an end or by a reset, or one that leaves the API.

sub kind
{
    my ($i) = @_;

    return (qw(rich end poor reset api), ('end', 'reset') x 8)[$i % 21];
}


sub left_calls
{
    my ($n) = @_;

    return scalar(grep { kind($_) =~ /end|reset/ } 0 .. $n - 1);
}


# Pauses Redis; so many clients send their requests, and wait in nginx.

sub gather
{
    my ($n, %opt) = @_;

    my $at = $opt{http2} ? $nginx->port_of('PORT2') : $port;
    my $each = $opt{http2} ? SOCKETS * 2 : SOCKETS;
    my @crowd;

    $redis->pause();

    for (my $i = 0; $i < $n; $i += $each) {
        my $last = $i + $each < $n ? $i + $each - 1 : $n - 1;

        push @crowd, child($opt{http2} ? sub { streams($at, $i, $last, @_) }
                                       : sub { clients($at, $i, $last, @_) });
    }

    my $links = 0;

    for my $child (@crowd) {
        my $line = readline($child->{out}) // '';

        $links += $1 if $line =~ /^sent (\d+)$/;
    }

    ok(wait_for(sub {
        my ($open, $unread) = sockets($at);
        return $open == $links && $unread == 0;
    }, 120), "$n requests are sent") or diag(join(' ', sockets($at)));

    up();
    $LLMBudget::MADE += grep { $opt{http2} || kind($_) ne 'api' } 0 .. $n - 1;

    return @crowd;
}


# Makes those leave who do, and waits until nginx knows.

sub leave
{
    my (@crowd) = @_;

    my $stay = 0;

    close($_->{in}) for @crowd;
    @PIPES = ();

    for my $child (@crowd) {
        my $line = readline($child->{out}) // '';

        $stay += $1 if $line =~ /^stay (\d+)$/;
    }

    ok(wait_for(sub {
        my $open = (sockets($port))[0]
                 + ($http2 ? (sockets($nginx->port_of('PORT2')))[0] : 0);
        return $open == $stay;
    }, 120), 'all but ' . $stay . ' have left');

    up();
}


# The answers of those who stayed: "rich 200" => n.

sub left
{
    my (@crowd) = @_;

    my %got;

    for my $child (@crowd) {
        while (defined(my $line = readline($child->{out}))) {
            chomp($line);
            $got{$line}++;
        }

        waitpid($child->{pid}, 0);
    }

    return %got;
}


# The worker has seen all that came before.

sub up
{
    is(get('/up', uncounted => 1, timeout => 60)->{status}, 204,
       'the worker runs on');
}


sub call
{
    return request('POST', '/v1/chat/completions', body => $body,
                   headers => { Authorization => 'Bearer k1' });
}


# No hold is pending; the store's counts.

sub settled
{
    my $stat;

    ok(wait_for(sub {
        $stat = (ledger(timeout => 60) // {})->{stat};
        return $stat && $stat->{pending} == 0
            && $stat->{voided} + $stat->{posted} == $stat->{opened};
    }, 120), 'every hold is closed') or diag(explain($stat));

    return $stat;
}


# The worker's memory, in bytes.

sub size
{
    my ($worker) = $nginx->workers();

    read_file("/proc/$worker/status") =~ /^VmRSS:\s+(\d+) kB/m or die;

    return $1 * 1024;
}


# How many connections nginx has at a port, and the bytes it has not read.

sub sockets
{
    my ($at) = @_;

    my ($open, $unread) = (0, 0);
    my $name = sprintf(':%04X', $at);

    for my $line (split(/\n/, read_file('/proc/net/tcp'))) {
        my (undef, $local, undef, $state, $queues) = split(' ', $line);

        next unless substr($local, -5) eq $name;

        # those that the kernel alone knows are no longer nginx's

        $open++ if $state eq '01' || $state eq '08';
        $unread += hex($1) if $state =~ /^(?:01|08|0A)$/
                              && $queues =~ /:(\w+)$/;
    }

    return ($open, $unread);
}


# ----------------------------------------------------------------- clients

# A process that reads from one pipe and writes to another.

sub child
{
    my ($sub) = @_;

    pipe(my $read, my $in) or die "pipe: $!\n";
    pipe(my $out, my $write) or die "pipe: $!\n";

    my $pid = fork() // die "fork: $!\n";

    if ($pid == 0) {
        close($_) for $in, $out, grep { defined } @PIPES;
        $write->autoflush(1);
        eval { $sub->($read, $write); 1 } or print $write "error: $@";
        POSIX::_exit(0);
    }

    close($read);
    close($write);
    push @PIPES, $in;

    return { pid => $pid, in => $in, out => $out };
}


# Sends requests, leaves when told, reads what comes for those who stay.

sub clients
{
    my ($at, $first, $last, $read, $write) = @_;

    my @socks;
    my $rest = $last - $first + 1;

    for my $i ($first .. $last) {
        my $kind = kind($i);
        my $sock = LLMBudget::connect_to($at);
        my $text = $kind eq 'api'
            ? request_text('GET', '/llm/api/ledger')
            : request_text('POST', '/v1/chat/completions', body => $body,
                           headers => { Authorization => 'Bearer k1',
                               $kind eq 'poor' ? ('X-Poor' => 1) : () });

        LLMBudget::write_all($sock, $text);
        push @socks, [$kind, $sock];
    }

    print $write "sent $rest\n";
    readline($read);

    my @stay = grep { $_->[0] =~ /rich|poor/ } @socks;

    for my $client (grep { $_->[0] !~ /rich|poor/ } @socks) {
        LLMBudget::finish({ sock => $client->[1] },
                          rst => $client->[0] eq 'reset');
    }

    print $write 'stay ' . @stay . "\n";

    for my $client (@stay) {
        my $answer = send_raw('', sock => $client->[1], timeout => 120);

        print $write "$client->[0] $answer->{status}\n";
    }
}


# The same by streams of HTTP/2, of which none stays: those of every other
# connection are reset, the others lose their connection.

sub streams
{
    my ($at, $first, $last, $read, $write) = @_;

    my @socks;
    my $left = $last - $first + 1;

    while ($left > 0) {
        my $sock = LLMBudget::connect_to($at);
        my $n = $left < STREAMS ? $left : STREAMS;

        LLMBudget::write_all($sock, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            . frame(SETTINGS, 0, 0, '')
            . join('', map { request_h2(2 * $_ - 1) } 1 .. $n));
        push @socks, [$n, $sock];
        $left -= $n;
    }

    print $write 'sent ' . @socks . "\n";
    readline($read);

    for my $i (0 .. $#socks) {
        my ($n, $sock) = @{$socks[$i]};

        LLMBudget::write_all($sock, join('', map {
            frame(RST, 0, 2 * $_ - 1, pack('N', CANCEL))
        } 1 .. $n)) if $i % 2;
        close($sock) unless $i % 2;
    }

    print $write "stay 0\n";
}


sub request_h2
{
    my ($id) = @_;

    my @headers = (':method' => 'POST', ':scheme' => 'http',
        ':path' => '/v1/chat/completions', ':authority' => 'localhost',
        'content-type' => 'application/json', authorization => 'Bearer k1');
    my $block = '';

    # literals that are not indexed, of up to 126 bytes

    while (my ($name, $value) = splice(@headers, 0, 2)) {
        $block .= "\0" . pack('C/aC/a', $name, $value);
    }

    return frame(HEADERS, END_HEADERS, $id, $block)
        . frame(DATA, END_STREAM, $id, $body);
}


sub frame
{
    my ($type, $flags, $id, $text) = @_;

    return substr(pack('N', length($text)), 1) . pack('CCN', $type, $flags,
                                                      $id) . $text;
}
