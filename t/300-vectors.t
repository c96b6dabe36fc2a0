#!/usr/bin/perl

# Copyright (C) the ngx_http_llm_budget_module authors

# Recorded provider traffic through a running gateway: the usage line says
# what the recording says, the client gets the recorded bytes, and the cost
# is what an independent reading of the price map makes of it.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use FindBin;
use IO::Uncompress::Gunzip qw(gunzip $GunzipError);
use JSON::PP;
use MIME::Base64;
use Test::More;

use lib "$FindBin::Bin/lib";
use LLMBudget;

need_module();

my $vectors = vectors();
my $map = root() . '/../shared/prices/model_prices_and_context_window.json';

plan(skip_all => 'no recorded answers') unless defined $vectors;
plan(skip_all => 'no real price map') unless -f $map;

my @files = qw(
    openai_chat openai_chat_stream openai_completions
    openai_completions_stream openai_responses openai_responses_stream
    openai_embeddings anthropic_messages anthropic_messages_stream
);

# refused before a provider is asked: what it costs is never told here

my %refused = ('request-background' => 'request_invalid');

my $json = JSON::PP->new->utf8;
my (@vectors, %file_count);

for my $file (@files) {
    open(my $fh, '<', "$vectors/$file.jsonl")
        or die "cannot open $file: $!\n";

    while (my $line = <$fh>) {
        my $v = $json->decode($line);

        $v->{name} = "$file:" . ($. - 1);
        $v->{bytes} = decode_base64($v->{response_body});
        utf8::encode($v->{request_body});
        $v->{refuse} = (grep { defined } @refused{@{$v->{tags}}})[0];
        push @vectors, $v;
        $file_count{$file}++;
    }

    close($fh);
}

for my $file (@files) {
    cmp_ok($file_count{$file} // 0, '>', 0, "there are recordings of $file");
}

my $standin = start_standin(prices => $map);
my $nginx = start_nginx(workers => 2, conf => llm_conf(
    prices => $map,
    path => '/',
    key => '$http_x_vector',
    limit => 'all key=all usd=1000000 per=lifetime',
    location => '            llm_budget_unknown_model price_as=gpt-4o;',
    proxy => '            proxy_buffers 16 64k;'));

# one after another, so that the provider's calls are in our order

my @whole = map { play($vectors[$_], 'whole') } 0 .. $#vectors;
my @calls = @{$standin->stats()->{calls}};

# every byte in a chunk of its own, which is a buffer of its own for a filter;
# in odd pieces; and as they were compressed: by a few clients at once

my @bytes = gather(4, sub {
    my ($i) = @_;
    return play($vectors[$i], 'bytes', 'pieces=1');
});

my @parts = gather(2, sub {
    my ($i) = @_;
    return play($vectors[$i], 'pieces', 'pieces=37');
});

my @packed = gather(2, sub {
    my ($i) = @_;

    return undef unless grep { $_ eq 'gzip' } @{$vectors[$i]{tags}};
    return play($vectors[$i], 'gzip', 'gzip=1; pieces=97');
});

wait_for(sub { (ledger() // {})->{stat}{pending} == 0 }, 5);

my $wanted = grep { defined } @whole, @bytes, @parts, @packed;
my $lines = wait_for(sub {
    my @lines = usage_lines();
    return @lines >= $wanted ? { map { $_->{key_id} => $_ } @lines } : 0;
}, 5) || {};

for my $i (0 .. $#vectors) {
    my $v = $vectors[$i];

    check($v, $whole[$i], 'whole', shift_call($v, $whole[$i]));
    check($v, $bytes[$i], 'bytes');
    check($v, $parts[$i], 'pieces');
    check($v, $packed[$i], 'gzip') if defined $packed[$i];
}

is(scalar(@calls), 0, 'the provider saw no other calls');
cmp_ok(scalar(grep { defined } @packed), '>', 50,
       'compressed recordings were among them');

my $ledger = ledger();
my $sum = 0;

$sum += $_->{cost_nusd} for usage_lines();

is($ledger->{stat}{pending}, 0, 'no hold is pending');
is($ledger->{accounts}[0]{held}, 0, 'no account holds anything');
is(spent($ledger), $sum, 'the ledger is the sum of the usage log');

$nginx->stop();
done_testing();


# Replays a vector; what the client got of it.

sub play
{
    my ($v, $way, $controls) = @_;

    my @headers = (['X-Vector', key($v, $way)],
                   ['Content-Type', 'application/json'],
                   map { [$_, $v->{request_headers}{$_}] }
                   grep { /^(anthropic-|openai-)/ }
                   sort keys %{$v->{request_headers}});

    my $answer = request($v->{method}, $v->{path}, headers => \@headers,
        body => $v->{request_body},
        standin => join('; ', "vector=$v->{name}", $controls // ()));

    return { map { $_ => $answer->{$_} }
             qw(status body headers truncated timed_out) };
}


sub key
{
    my ($v, $way) = @_;

    return "$v->{id}-$v->{name}-$way";
}


# sub->(index) of all vectors by n clients at once; the results in order.

sub gather
{
    my ($n, $sub) = @_;

    my @results;

    for my $part (parallel($n, sub {
        my ($me) = @_;
        return { map { $_ % $n == $me ? ($_ => $sub->($_)) : () }
                 0 .. $#vectors };
    })) {
        @results[keys %$part] = values %$part;
    }

    return @results;
}


# The provider's account of a call, if it got that far.

sub shift_call
{
    my ($v, $answer) = @_;

    return $v->{refuse} ? undef : shift @calls;
}


sub check
{
    my ($v, $answer, $way, $call) = @_;

    my $line = $lines->{sha256_hex(key($v, $way))};
    my @wrong = defined $line ? () : ('there is no usage line');

    if ($line && $v->{refuse}) {
        @wrong = check_refused($v, $answer, $line);

    } elsif ($line) {
        @wrong = (check_bytes($v, $answer, $way),
                  check_line($v, $line, $way),
                  check_call($v, $line, $call));
    }

    ok(!@wrong, "$v->{name} $v->{id} is metered as recorded, $way")
        or diag(join("\n", @wrong, $line ? $json->canonical->encode($line)
                                         : ()));
}


sub check_refused
{
    my ($v, $answer, $line) = @_;

    my $body = eval { $json->decode($answer->{body}) } // {};
    my $code = $body->{error}{code} // '';
    my @wrong;

    push @wrong, "status $answer->{status}, not 400"
        if $answer->{status} != 400;
    push @wrong, "code \"$code\", not \"$v->{refuse}\""
        if $code ne $v->{refuse} || $line->{code} ne $v->{refuse};
    push @wrong, "cost $line->{cost_nusd}" if $line->{cost_nusd} != 0;

    return @wrong;
}


# The client gets what was recorded, also of errors.

sub check_bytes
{
    my ($v, $answer, $way) = @_;

    my $coding = $answer->{headers}{'content-encoding'} // '';
    my $bytes = $v->{bytes};
    my @wrong;

    if (grep { $_ eq 'gzip' } @{$v->{tags}}) {
        push @wrong, "Content-Encoding \"$coding\""
            if $coding ne ($way eq 'gzip' ? 'gzip' : '');

        if ($way ne 'gzip') {
            gunzip(\$v->{bytes}, \$bytes) or die "$GunzipError\n";
        }
    }

    push @wrong, "status $answer->{status}, not $v->{status}"
        if $answer->{status} != $v->{status};
    push @wrong, 'other bytes reached the client'
        if $answer->{body} ne $bytes;
    push @wrong, 'the answer was cut'
        if $answer->{truncated} || $answer->{timed_out};

    return @wrong;
}


sub check_line
{
    my ($v, $line, $way) = @_;

    my $want = $v->{expected};
    my $end = $v->{status} >= 300 ? 'upstream_error' : 'complete';
    my $source = $v->{status} >= 300 ? 'none'
               : $want->{usage_present} ? 'provider' : 'hold';
    my @wrong;

    push @wrong, "end \"$line->{end}\", not \"$end\""
        if $line->{end} ne $end && !($want->{error} && $v->{status} < 300);
    push @wrong, "usage_source \"$line->{usage_source}\", not \"$source\""
        if $line->{usage_source} ne $source;
    push @wrong, "flags " . join(' ', @{$line->{flags}})
        if grep { /^(compressed|cost_overflow|hold_expired|usage_broken)$/ }
           @{$line->{flags}};

    if ($source eq 'none') {
        push @wrong, 'an error was charged' if $line->{cost_nusd} != 0;
        return @wrong;
    }

    if ($source eq 'hold') {
        push @wrong, "cost $line->{cost_nusd}, not the hold's"
            if $line->{cost_nusd} != $line->{hold_nusd}
            || $line->{cost_nusd} <= 0;
        return @wrong;
    }

    return (@wrong, differences($want, $line));
}


sub differences
{
    my ($want, $line) = @_;

    my $extras = $want->{extras} // {};
    my %want = (
        input_tokens => 'input', output_tokens => 'output',
        cached_read_tokens => 'cached_read',
        cache_write_tokens => 'cache_write',
        cache_write_1h_tokens => 'cache_write_1h',
        reasoning_tokens => 'reasoning',
        model_served => 'response_model', service_tier => 'service_tier',
    );
    my @wrong;

    for my $name (sort keys %want) {
        my $value = $want->{$want{$name}};

        next unless defined $value;

        push @wrong, "$name is \"$line->{$name}\", not \"$value\""
            unless grep { $_ eq $line->{$name} }
                   $value, @{$want->{accept}{$want{$name}} // []};
    }

    my $searches = $extras->{web_search_requests}
        // $extras->{tool_usage}{web_search}{num_requests};

    push @wrong, "web_searches is $line->{web_searches}, not $searches"
        if defined $searches && $line->{web_searches} != $searches;

    return @wrong;
}


# The stand-in reads the price map with code of its own.

sub check_call
{
    my ($v, $line, $call) = @_;

    return () unless $call && $v->{expected}{usage_present}
        && defined $call->{priced_as} && $v->{status} < 300;

    return () if ($v->{expected}{extras} // {})->{extra_iterations};

    my @wrong;

    push @wrong, "priced as \"$line->{priced_as}\", not "
        . "\"$call->{priced_as}\"" if $line->{priced_as} ne $call->{priced_as};

    # the stand-in does not look for searches in the items of a response

    my $cost = $call->{billed_nusd};
    my $extras = $v->{expected}{extras} // {};

    $cost += 10_000_000 * $line->{web_searches}
        if !defined $extras->{web_search_requests}
        && grep { $_ eq 'search_unpriced' } @{$line->{flags}};

    push @wrong, "cost $line->{cost_nusd}, not $cost"
        if $line->{cost_nusd} != $cost;

    return @wrong;
}
