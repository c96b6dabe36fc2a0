package LLMBudgetSDK;

# Copyright (C) the ngx_http_llm_budget_module authors
#
# The official Node.js clients as a test's client: t/sdk/driver.js does what
# it is told in JSON.  scripts/setup test installs the clients.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use IO::Handle;
use IPC::Open2 ();
use JSON::PP ();
use Test::More;
use Time::HiRes ();

use LLMBudget;


# Skips the test file unless node and the clients are there.

sub need_sdk
{
    my ($package) = @_;

    my $dir = sdk_dir();
    my $version = qx(node --version 2>/dev/null);

    plan(skip_all => 'no node: run scripts/setup test')
        unless defined $version && $version =~ /^v(\d+)/;
    plan(skip_all => "node $1 is too old for the clients") if $1 < 18;
    plan(skip_all => "no npm package $package: run scripts/setup test")
        unless -f "$dir/node_modules/$package/package.json";
}


sub sdk_dir
{
    return "$LLMBudget::BUILD/sdk";
}


# Starts two stand-ins and nginx before the second.  Keys: sk-ok, which has
# room, sk-poor, with a budget of 0.0001 USD, sk-seat, one request at a time;
# any other is unknown.  Returns nginx, its stand-in and the other stand-in,
# for what a client gets without nginx in between.

sub gateway
{
    my $direct = start_standin();
    my $standin = start_standin();
    my $map = join('', map { '            ' . sha256_hex("sk-$_") . " $_;\n" }
                       qw(ok poor seat));

    my $nginx = start_nginx(workers => 2, standin => $standin,
                            conf => llm_conf(
        http     => <<"END",
        map_hash_bucket_size 128;

        map \$llm_budget_key_sha256 \$who {
            default "";
$map        }

        map \$who \$daily {
            default 1000;
            poor    0.0001;
        }

        map \$who \$seats {
            default 100;
            seat    1;
        }

        llm_budget_provider own {
            pass     http://standin/v1;
            api_key  sk-provider;
        }
END
        key      => '$who',
        limit    => ['all key=all usd=1000 per=lifetime',
                     'person key=$who usd=$daily per=year',
                     'seats key=$who concurrency=$seats'],
        location => '            llm_budget_pass own;',
        pass     => '$llm_budget_pass',
    ));

    return ($nginx, $standin, $direct);
}


# A running driver for "openai" or "anthropic"; client: options that every
# client it makes gets.

sub new
{
    my ($class, $name, %client) = @_;

    my $self = bless { client => \%client, owner => $$ }, $class;

    $self->{pid} = IPC::Open2::open2($self->{out}, $self->{in}, 'node',
        root() . '/t/sdk/driver.js', sdk_dir(), $name);
    $self->{in}->autoflush(1);

    return $self;
}


# Makes a call and returns its outcome (see driver.js), with lines: how many
# requests nginx has logged for it.  Options: client => {...}, standin =>
# text, and those of driver.js.

sub call
{
    my ($self, $call, $body, %opt) = @_;

    my $before = lines();
    my $used = lines('usage.log');
    my $command = $self->command($call, $body, %opt);

    print { $self->{in} } JSON::PP->new->utf8->encode($command), "\n";

    my $text = readline($self->{out});

    die "the SDK driver died\n" unless defined $text;

    my $outcome = JSON::PP->new->utf8->decode($text);
    my $tries = @{$outcome->{tries}}
        + ($outcome->{while} ? @{$outcome->{while}{tries}} : 0);

    # nginx logs a request when it is over, which a client may see before

    wait_for(sub {
        return lines() - $before >= $tries
            && lines('usage.log') - $used >= $tries;
    }) unless $opt{direct};

    $outcome->{lines} = lines() - $before;
    $LLMBudget::MADE += $outcome->{lines} unless $opt{uncounted};

    return $outcome;
}


sub command
{
    my ($self, $call, $body, %opt) = @_;

    my $other = delete $opt{while};
    my $headers = delete $opt{headers} // {};
    my $standin = delete $opt{standin};

    $headers->{'X-Stand-In'} = $standin if defined $standin;

    my $command = { %opt, call => $call,
                    args => [$body, { headers => $headers }],
                    client => { %{$self->{client}}, %{$opt{client} // {}} } };

    $command->{while} = $self->command(@$other) if $other;

    return $command;
}


# Lines of the access log, one a request, or of another one.

sub lines
{
    my ($name) = @_;

    $name //= 'logs/access.log';

    my $text = read_file("$LLMBudget::NGINX->{dir}/$name") // '';

    return ($text =~ tr/\n//);
}


# An event or answer without what differs between two calls.

sub plain
{
    my ($value) = @_;

    my $text = JSON::PP->new->canonical->allow_nonref->encode($value);

    $text =~ s/"((?:chatcmpl|cmpl|resp|msg|req)[-_])\d+"/"$1N"/g;
    $text =~ s/"_request_id":"[^"]*",?//g;

    return JSON::PP->new->allow_nonref->decode($text);
}


sub stop
{
    my ($self) = @_;

    my $pid = delete $self->{pid} // return;

    close($self->{in});
    close($self->{out});
    waitpid($pid, 0);

    return $? == 0;
}


sub DESTROY
{
    my ($self) = @_;

    local ($?, $!);

    $self->stop() if $self->{owner} == $$;
}


1;
