#!/usr/bin/perl

# Copyright (C) the ngx_http_llm_budget_module authors

# However a client leaves, what the provider bills for what it has done until
# then is charged, and no hold is left (T02, T03, T04).

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/lib";
use LLMBudget;
use Metered;

need_module();

my $standin = start_standin();
my $nginx = start_nginx(workers => 2, conf => llm_conf());

# count=body: the stand-in counts prompts as the module guesses them

my $messages = chat()->{messages};
my %call = (
    chat => ['/v1/chat/completions', { model => 'm-std', max_tokens => 400,
             messages => $messages, stream_options =>
             { include_usage => \1 } }, qr/abc /, qr/"role"/,
             qr/\[DONE\]/],
    completions => ['/v1/completions', { model => 'm-std', prompt => 'abcd',
             max_tokens => 400, stream_options => { include_usage => \1 } },
             qr/abc /, undef, qr/\[DONE\]/],
    responses => ['/v1/responses', { model => 'm-std', input => 'abcd',
             max_output_tokens => 400 }, qr/"delta":"abc /,
             qr/output_item.added/, qr/"type":"response.completed"/],
    messages => ['/v1/messages', { model => 'c-std', messages => $messages,
             max_tokens => 400 }, qr/"text":"abc /, qr/"ping"/,
             qr/"type":"message_stop"/],
);

for my $dialect (sort keys %call) {
    my ($path, $body, $delta, $first) = @{$call{$dialect}};

    for my $n (0, 1, 5, 50) {
        my $on = $n ? deltas($delta, $n) : $first // next;

        for my $rst (0, 1) {
            my ($answer, $line, $bill) = call($path, { %$body, stream => \1 },
                standin => "out=200; count=body; wait_after=$n",
                abort_on => $on, rst => $rst);

            # message_start tells of one token before there is any

            my $least = $dialect eq 'messages' ? 1 : 0;

            is_line($line, { usage_source => 'estimated', end => 'aborted',
                status => 200, cost_nusd => $bill->{billed_nusd},
                input_tokens => $bill->{input},
                output_tokens => $n > $least ? $n : $least },
                "$dialect: a client that leaves after $n deltas pays for "
                . 'prompt and deltas (T03)' . ($rst ? ', by a reset' : ''));
            is("$bill->{end} $bill->{deltas}", "aborted $n",
               '... and the provider is told to stop');
        }
    }
}

# usage that was already there is taken

for my $case (['usage=first', 200, 'all is told in the first chunk'],
              ['usage=every', 5, 'each chunk tells of the tokens so far'],
              ['usage=bad', 5, 'and numbers that are none are not taken']) {
    my ($controls, $output, $title) = @$case;
    my ($path, $body) = @{$call{chat}};
    my ($answer, $line, $bill) = call($path, { %$body, stream => \1 },
        standin => "out=200; count=body; wait_after=5; $controls",
        abort_on => deltas(qr/abc /, 5));

    is_line($line, { usage_source => 'estimated', end => 'aborted',
        cost_nusd => $bill->{billed_nusd}, output_tokens => $output },
        "a client that leaves where $title pays that (T04)");
}

# before anything came, and while an answer that is not streamed is made

for my $dialect (sort keys %call) {
    my ($path, $body) = @{$call{$dialect}};

    for my $stream (0, 1) {
        for my $way ('fin', 'rst', 'half') {
            my ($line, $bill) = leave_early($path,
                { %$body, stream => $stream ? \1 : \0 }, $way);

            is_line($line, { usage_source => 'estimated', end => 'aborted',
                status => 499, cost_nusd => $bill->{billed_nusd},
                output_tokens => 0 }, "$dialect: a client that leaves before "
                . ($stream ? 'its stream' : 'its answer')
                . " begins pays for the prompt (T03), $way");
        }
    }
}

# the official SDKs leave on [DONE]: that is no abort

for my $dialect (sort keys %call) {
    my ($path, $body, undef, undef, $done) = @{$call{$dialect}};
    my $times = $dialect eq 'chat' ? 1000 : 20;
    my %ends;
    my $cost;

    for my $i (1 .. $times) {
        my ($answer, $line) = call($path, { %$body, stream => \1 },
            standin => 'out=3; prompt=100', abort_on => $done, billed => 0,
            rst => $i % 2);

        $ends{"$line->{end} $line->{usage_source} $line->{output_tokens} "
              . "$line->{cost_nusd}"}++;
    }

    $cost = $dialect eq 'messages' ? 345_000 : 280_000;
    is_deeply(\%ends, { "complete provider 3 $cost" => $times },
              "$dialect: $times clients leave on reading the end, and none "
              . 'is lost (T04)');
}

# many at once, at any moment

parallel(8, sub {
    my ($me) = @_;

    for my $i (0 .. 11) {
        my ($path, $body) = @{$call{(sort keys %call)[$i % 4]}};

        post_json($path, { %$body, stream => \1 }, standin =>
            'out=60; gap=1; prompt=100', headers =>
            { Authorization => "Bearer p$me" },
            abort_after => 7 * (($me + $i) % 9), rst => $i % 2);
    }
});

agree('whenever clients leave, the ledger is the sum of the usage log');

$nginx->stop();

# once more with nothing but aborts that the provider sees as we do

$standin->reset();
$LLMBudget::MADE = 0;
$nginx = start_nginx(workers => 2, conf => llm_conf());

for my $dialect (sort keys %call) {
    my ($path, $body, $delta) = @{$call{$dialect}};

    for my $n (1 .. 20) {
        call($path, { %$body, stream => \1 }, standin =>
             "out=200; count=body; wait_after=$n",
             abort_on => deltas($delta, $n));
    }

    leave_early($path, $body, 'fin');
}

balanced('the books agree after aborts alone', wait => 10);
$nginx->stop();
done_testing();


# The regex of n deltas, one that does not go back over them.

sub deltas
{
    my ($delta, $n) = @_;

    return qr/\A(?>.*?$delta){$n}/s;
}


sub leave_early
{
    my ($path, $body, $way) = @_;

    my $before = @{$standin->stats()->{calls}};
    my $answer = post_json($path, $body, keep => 1, no_read => 1,
        headers => { Authorization => 'Bearer k1' },
        standin => 'hang=1; count=body');
    my $bill;

    wait_for(sub { $standin->stats()->{in_flight} });

    if ($way eq 'half') {
        shutdown($answer->{sock}, 1);

    } elsif ($way eq 'rst') {
        setsockopt($answer->{sock}, Socket::SOL_SOCKET(),
                   Socket::SO_LINGER(), pack('ii', 1, 0));
        close(delete $answer->{sock});

    } else {
        close(delete $answer->{sock});
    }

    my $line = next_line();

    wait_for(sub { $bill = $standin->stats()->{calls}[$before] });

    return ($line, $bill);
}
