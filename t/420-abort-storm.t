#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# 500 calls by 20 clients, most of which leave at some moment, while nginx
# reloads: no hold is left, no call is charged twice, and what was answered in
# full is charged what was billed (T02, T03, T40).  TEST_STORM_SEED=N: another
# storm.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP ();
use Test::More;

use LLMBudget;
use Metered;


need_module();

use constant { CLIENTS => 20, CALLS => 25, RELOADS => 8 };

my $standin = start_standin();

my $nginx = start_nginx(workers => 2, conf => llm_conf(
    server => '        listen 127.0.0.1:%%PORT2%% http2;',
    limit => ['all key=all usd=1000 per=lifetime',
              'own usd=100 tokens=100000000 requests=100000 concurrency=50'
              . ' per=day'],
    locations => <<'END'));
        location /deaf/v1/ {
            llm_budget on;
            llm_budget_key $http_authorization;
            llm_budget_limit all key=all usd=1000 per=lifetime;
            proxy_ignore_client_abort on;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_pass http://standin/v1/;
        }
END

my $http2 = qx(curl -V 2>/dev/null) =~ /HTTP2/;
my $messages = chat()->{messages};

my @calls = (
    ['/v1/chat/completions', { model => 'm-std', messages => $messages,
                               max_tokens => 400 }],
    ['/v1/messages', { model => 'c-std', messages => $messages,
                       max_tokens => 400 }],
    ['/v1/responses', { model => 'm-std', input => 'abcd',
                        max_output_tokens => 400 }],
    ['/deaf/v1/chat/completions', { model => 'm-std', messages => $messages,
                                    max_tokens => 400 }],
);

# how a client leaves

my @ways = (
    sub { () },
    sub { (abort_after => rand(90)) },
    sub { (abort_after => rand(90), rst => 1) },
    sub { (abort_at => int(rand(3000))) },
    sub { (abort_at => int(rand(3000)), rst => 1) },
    sub { (cut => rand()) },
    sub { (half => rand(60)) },
    sub { (http2 => 0.005 + rand(0.09)) },
);

my @results = parallel(CLIENTS + 1, sub {
    my ($me) = @_;

    if ($me == CLIENTS) {
        for (1 .. RELOADS) {
            $nginx->signal('HUP');
            sleep_ms(400);
        }

        return {};
    }

    srand(($ENV{TEST_STORM_SEED} // 420) + $me);

    my @whole;

    for my $i (0 .. CALLS - 1) {
        my $id = 1000 + $me * CALLS + $i;

        push @whole, $id if one($id, $calls[rand(@calls)],
                                $ways[rand($http2 ? @ways : @ways - 1)]->());
    }

    return { whole => \@whole };
});

ok(wait_for(sub { ledger()->{stat}{pending} == 0
                  && $standin->stats()->{in_flight} == 0 }, 15),
   'no hold is left pending (T02)');
ok(wait_for(sub { $nginx->workers() == 2 }, 15),
   'no worker of an older generation stays (T40)');
agree('the ledger is the sum of the usage log');

# prompt=N told the stand-in how many tokens to bill: that is the call's name

my %lines;
my %ids;
my %bills = map { $_->{input} => $_ } @{$standin->stats()->{calls}};

for my $line (usage_lines()) {
    $ids{$line->{id}}++;
    push @{$lines{$line->{input_tokens}}}, $line
        if $line->{usage_source} eq 'provider' && $line->{end} eq 'complete';
}

my @whole = sort { $a <=> $b } map { @{$_->{whole} // []} } @results;
my @wrong = grep { @{$lines{$_}} != 1
                   || $lines{$_}[0]{cost_nusd} != $bills{$_}{billed_nusd} }
            keys %lines;

is(join(' ', grep { $ids{$_} != 1 } keys %ids), '',
   'no call has two usage lines');
is(join(' ', @wrong), '', 'usage that was told is charged as billed, once');
is(join(' ', grep { !$lines{$_} } @whole), '',
   'each call that a client has read to its end is among that (T03)');
cmp_ok(scalar(@whole), '>', CLIENTS, 'clients did read to the end');

my %ends;
my $reloads = () = $nginx->log_text() =~ /signal 1 \(SIGHUP\) received from/g;

$ends{$_->{end}}++ for usage_lines();
cmp_ok($ends{aborted} // 0, '>', 100, 'clients did leave')
    or diag(explain(\%ends));
cmp_ok($reloads, '>=', RELOADS / 2, 'there were reloads');

$nginx->stop();
done_testing();


# One call; true if the answer was read to its end.

sub one
{
    my ($id, $call, %way) = @_;

    my ($path, $body) = @$call;
    my $stream = rand() < 0.6;
    my %opt = (headers => { Authorization => 'Bearer k' . $id % 7 },
               body => { %$body, stream => $stream ? \1 : \0 },
               standin => 'out=' . int(rand(60)) . "; prompt=$id; "
                          . ($stream ? 'gap=1' : 'delay=' . int(rand(60))));

    if ($way{http2}) {
        leave_http2($path, $way{http2}, %opt);
        return 0;
    }

    if (defined $way{cut}) {
        my $text = request_text('POST', $path, %opt);

        LLMBudget::send_raw(substr($text, 0, $way{cut} * length($text)),
                            no_read => 1);
        return 0;
    }

    if (defined $way{half}) {
        my $answer = request('POST', $path, %opt, keep => 1, no_read => 1);

        sleep_ms($way{half});
        shutdown($answer->{sock}, 1);
        LLMBudget::send_raw('', sock => $answer->{sock});
        return 0;
    }

    my $answer = request('POST', $path, %opt, %way);

    return !%way && $answer->{status} == 200 && !$answer->{truncated}
           && !$answer->{timed_out};
}


# A stream of HTTP/2 that ends before its answer does.

sub leave_http2
{
    my ($path, $seconds, %opt) = @_;

    my $port = $nginx->port_of('PORT2');
    my $body = JSON::PP->new->encode($opt{body});

    system('curl', '-s', '-o', '/dev/null', '--http2-prior-knowledge',
           '-m', $seconds, '-d', $body, '-H', 'Content-Type: application/json',
           '-H', "Authorization: $opt{headers}{Authorization}",
           '-H', "X-Stand-In: $opt{standin}",
           "http://127.0.0.1:$port$path");
}
