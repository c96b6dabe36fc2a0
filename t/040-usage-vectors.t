#!/usr/bin/perl

# Copyright (C) the ngx_http_llm_budget_module authors

# The usage reader finds in recorded answers what the recordings say: fed
# whole, byte by byte and cut in two at many places.

###############################################################################

use warnings;
use strict;

use Test::More;

use File::Basename qw(basename dirname);
use File::Temp;
use IO::Uncompress::Gunzip qw(gunzip $GunzipError);
use JSON::PP;
use MIME::Base64;

###############################################################################

my $root = dirname(__FILE__) . '/..';
my $vectors = "$root/../shared/vectors";
my $units = $ENV{LLMB_UNIT_DIR} // "$root/build/unit";

plan(skip_all => 'no recorded answers') unless -d $vectors;
plan(skip_all => 'usage_cat is not built') unless -x "$units/usage_cat";

# bits of "seen" and results

use constant {
	ERROR		=> 0x10,
	PENDING		=> 0x20,

	OK		=> 0,
	DECLINED	=> 2,
};

my @required = qw(
	openai_chat openai_chat_stream openai_completions
	openai_completions_stream openai_responses openai_responses_stream
	openai_embeddings anthropic_messages anthropic_messages_stream
);

my $json = JSON::PP->new()->utf8();
my $body = File::Temp->new();
my %done;

for my $file (sort glob("$vectors/*.jsonl")) {
	my $name = basename($file, '.jsonl');
	my $dialect = dialect($name);

	next unless defined $dialect;

	open(my $fh, '<', $file) or die "cannot open $file: $!\n";

	while (my $line = <$fh>) {
		check($dialect, vector($line));
		$done{$name}++;
	}

	close($fh);
}

for my $name (@required) {
	cmp_ok($done{$name} // 0, '>', 0, "there are answers of $name");
}

done_testing();

###############################################################################

# Other shapes than those of the five dialects are none of our business.

sub dialect {
	my ($name) = @_;

	return undef if $name =~ /^(cohere|ollama-native|bedrock)_/;

	return 'messages' if $name =~ /^anthropic_messages/;
	return 'chat' if $name =~ /_chat(_stream)?$/;
	return 'completions' if $name =~ /_completions(_stream)?$/;
	return 'responses' if $name =~ /_responses(_|$)/;
	return 'embeddings' if $name =~ /_embeddings$/;

	return undef;
}

# The request is large and not needed: taking it out saves half of the time.

sub vector {
	my ($line) = @_;

	$line =~ s/"request_body": ?"(?:[^"\\]++|\\.)*+"/"request_body":""/s;

	return $json->decode($line);
}

sub check {
	my ($dialect, $v) = @_;

	my $want = $v->{expected};
	my $bytes = decode_base64($v->{response_body} // '');

	if (($v->{response_headers}{'content-encoding'} // '') eq 'gzip') {
		my $plain;
		gunzip(\$bytes, \$plain) or die "$v->{id}: $GunzipError\n";
		$bytes = $plain;
	}

	truncate($body, 0);
	seek($body, 0, 0);
	binmode($body);
	print $body $bytes;
	$body->flush();

	my $out = `"$units/usage_cat" -a $dialect "$body"`;
	my $rc = $?;
	my $got = eval { $json->decode($out) };

	my @wrong = defined $got ? differences($want, $got, $v->{status})
		: 'nothing was printed';

	push @wrong, 'depends on how the answer is cut' if $rc != 0;

	ok(!@wrong, "$v->{id} is read as recorded") or diag(join("\n", @wrong));
}

sub differences {
	my ($want, $got, $status) = @_;
	my @wrong;

	if (!$want->{usage_present}) {
		push @wrong, "has a usage: rc $got->{rc}"
			if $got->{rc} != DECLINED;
		push @wrong, 'is no error'
			if $status >= 400 && $want->{error}
			&& !($got->{seen} & ERROR);

		return @wrong;
	}

	return "has no usage: rc $got->{rc}" if $got->{rc} != OK;

	push @wrong, 'is an error' if $got->{seen} & ERROR && !$want->{error};
	push @wrong, 'is pending' if $got->{seen} & PENDING;

	my %sum = %$got;

	for my $extra (@{$got->{extra}}) {
		$sum{$_} += $extra->{$_} for qw(input output cached_read
			cache_write cache_write_5m cache_write_1h);
	}

	my %more = %{$want->{extras} // {}};

	$sum{response_model} = $got->{model};
	$sum{service_tier} = $got->{tier};
	$sum{web_search_requests} = $got->{searches};

	my %wanted = (
		(map { $_ => $want->{$_} } qw(input output cached_read cache_write
			cache_write_5m cache_write_1h reasoning response_model
			service_tier)),
		web_search_requests => $more{web_search_requests}
			// $more{tool_usage}{web_search}{num_requests},
	);

	for my $field (sort keys %wanted) {
		next unless defined $wanted{$field};

		my @accept = ($wanted{$field}, @{$want->{accept}{$field} // []});

		push @wrong, "$field is $sum{$field}, not $wanted{$field}"
			unless grep { $_ eq $sum{$field} } @accept;
	}

	return @wrong;
}

###############################################################################
