package Metered;

# Copyright (C) the ngx_http_llm_budget_module authors
#
# One metered call at a time: what the client got, what the usage line says
# and what the provider billed, side by side.

use strict;
use warnings;

use Exporter 'import';
use File::Path ();
use JSON::PP ();
use MIME::Base64 ();
use Test::More;

use LLMBudget;


our @EXPORT = qw(
    agree answers_of call chat is_line next_line sse_minus_usage
);

my $JSON = JSON::PP->new->utf8;
my %AT;                         # usage log => bytes read of it


# The next usage line, waited for; undef if none comes.

sub next_line
{
    my ($wait) = @_;

    my $path = "$LLMBudget::NGINX->{dir}/usage.log";
    my $line;

    wait_for(sub {
        open(my $fh, '<:raw', $path) or return 0;
        seek($fh, $AT{$path} // 0, 0);

        my $text = readline($fh) // '';

        $line = $text if $text =~ /\n\z/;
        return defined $line;
    }, $wait // 10);

    return undef unless defined $line;

    $AT{$path} += length($line);

    return $JSON->decode($line);
}


# Posts a body; ($answer, $line, $bill): the stand-in's record of the call,
# once it is over there, too.  Options of request(), and billed => 0: do not
# ask the stand-in, which takes long once it has many calls to tell of.

sub call
{
    my ($path, $body, %opt) = @_;

    my $standin = $LLMBudget::NGINX->{standin};
    my $ask = $opt{billed} // 1;
    my $before = $ask ? @{$standin->stats()->{calls}} : 0;
    my $answer = post_json($path, $body, headers =>
                           { Authorization => 'Bearer k1' }, %opt);
    my $line = next_line();
    my $bill;

    if ($ask) {
        wait_for(sub {
            my $calls = $standin->stats()->{calls};

            $bill = $calls->[$before];
            return defined $bill;
        });
    }

    return ($answer, $line, $bill);
}


# The body of a small chat request.

sub chat
{
    my (%members) = @_;

    return { model => 'm-std', messages => [{ role => 'user',
             content => 'abcd' x 10 }], %members };
}


# Compares members of a usage line; "flags" is a text of names.

sub is_line
{
    my ($line, $want, $title) = @_;

    my %got = map { $_ => $line->{$_} } keys %$want;

    $got{flags} = join(' ', @{$line->{flags} // []}) if exists $got{flags};

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    is_deeply(\%got, $want, $title) or diag($line ? $JSON->canonical->encode(
                                                $line) : 'no usage line');
}


# No hold is left and the ledger is the sum of the usage log: for where the
# provider's bill may differ.

sub agree
{
    my ($title) = @_;

    my ($ledger, $sum, $held) = ({}, 0, 0);

    wait_for(sub {
        $ledger = ledger() // {};
        return ($ledger->{stat}{pending} // 1) == 0;
    });

    $sum += $_->{cost_nusd} for usage_lines();
    $held += $_->{held} // 0 for @{$ledger->{accounts} // []};

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    is("pending $ledger->{stat}{pending} held $held spent "
       . spent($ledger), "pending 0 held 0 spent $sum", $title);
}


# A folder of vectors for the stand-in made of texts: name => [headers, text,
# status]; each is "NAME:0" there.

sub answers_of
{
    my (%answers) = @_;

    my $dir = "$LLMBudget::BUILD/servroot/answers-$$";

    File::Path::make_path($dir);

    for my $name (keys %answers) {
        my ($headers, $text, $status) = @{$answers{$name}};

        my $line = $JSON->encode({ status => $status // 200,
            response_headers => $headers, expected => { response_streamed =>
                ($headers->{'content-type'} // '') =~ /event-stream/
                ? JSON::PP::true : JSON::PP::false } });

        # by hand, as it may be long

        $line =~ s/\}\z/',"response_body":"'
            . MIME::Base64::encode_base64($text, '') . '"}'/e;
        write_file("$dir/$name.jsonl", "$line\n");
    }

    return $dir;
}


# An event stream without its usage-only chunks; the stand-in's line end.

sub sse_minus_usage
{
    my ($text) = @_;

    $text =~ s/data: \{[^\r\n]*"choices":\[\],"usage":\{[^\r\n]*\}(\r?\n){2}//g;

    return $text;
}


END {
    my $dir = "$LLMBudget::BUILD/servroot/answers-$$";

    File::Path::remove_tree($dir) if -d $dir;
}


1;
