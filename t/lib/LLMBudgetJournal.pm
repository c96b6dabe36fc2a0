package LLMBudgetJournal;

# Copyright (C) the ngx_http_llm_budget_module authors
#
# What the tests of the journal have in common: calls that are let in while
# Redis is away, and the books when it is back.  They use the last nginx that
# was started, and a Redis behind a proxy.

use strict;
use warnings;

use Exporter 'import';
use JSON::PP ();
use Test::More;

use LLMBudget;
use LLMBudgetRedis;


our @EXPORT = qw(
    after call ended fresh journal_conf journal_dir lines_left no_faults
    posted refuse repair restart served start_all stream switch
);

our ($standin, $redis, $proxy, $nginx);


# All there has to be: the stand-in, Redis, its proxy, nginx.

sub start_all
{
    $standin = start_standin();
    $redis = start_redis(appendonly => 1);
    $proxy = start_faults($redis);
    $nginx = start_nginx(workers => 1, conf => journal_conf());

    return ($standin, $redis, $proxy, $nginx);
}


sub journal_dir
{
    return "$nginx->{dir}/journal";
}


# When Redis is back: all is charged, each call once by its id.

sub after
{
    my (%opt) = @_;

    ok(wait_for(sub { lines_left() == 0 }, $opt{wait} // 8),
       'nothing is left in the journal');

    if ($opt{cut}) {

        # a worker that is stopped at once writes no more lines

        my $got = balances(wait => 8, lines => $LLMBudget::MADE - $opt{cut});
        my $billed = 0;

        $billed += $_->{billed_nusd}
            for grep { $_->{end} eq 'aborted' } @{$got->{stats}{calls}};

        cmp_ok($billed, '>', 0, 'what was cut is billed');
        is($got->{spent}, $got->{billed}, '... and charged');
        is($got->{log}, $got->{billed} - $billed, '... and not in the log');

    } else {
        balanced('the books agree', wait => $opt{wait} // 8);
    }

    my @lines = usage_lines();
    my @served = grep { $_->{status} == 200 } @lines;
    my %ids = map { $_->{id} => 1 } @lines;
    my $stat = (wait_for(sub { ledger() }, 8) || {})->{stat};

    is(scalar(keys %ids), @lines, 'each line has its id');
    is($stat->{posted}, @served + ($opt{cut} // 0),
       'what was served was posted, once');
    is($stat->{expired}, 0, 'nothing has expired');
}


sub posted
{
    return $redis->cli('HGET', 'llmb{-}:meta', 'posted') // 0;
}


# Lines that nobody was told so far.

sub lines_left
{
    my $n = 0;

    for my $file (glob(journal_dir() . '/*')) {
        $n += () = (read_file($file) // '') =~ /^[^t\n][^\n]*/mg;
    }

    return $n;
}


# The operator puts lines into the journal: the name says which store they are
# for, and the file is there at once.

sub repair
{
    my ($text) = @_;

    my ($name) = $nginx->log_text()
        =~ m{/(journal\.\w{16}\.)\d+\.\d+" were told}
        or die "there was no journal\n";

    my $dir = journal_dir();

    rename(write_file("$dir/repaired", $text), "$dir/${name}1.0")
        or die "rename: $!\n";
}


sub journal_conf
{
    my (%opt) = @_;

    return llm_conf(
        redis => $proxy->url() . ' timeout=300ms keep=' . ($opt{keep} // '1h'),
        outage => 'allow',
        journal => '%%DIR%%/journal size=' . ($opt{size} // '64k'),
        limit => ['all key=all usd=1000 per=lifetime',
                  'own key=$http_x_key usd=1000 per=lifetime']);
}


sub fresh
{
    no_faults();
    $redis->cli('FLUSHALL');
    $standin->reset();
    truncate("$nginx->{dir}/usage.log", 0);
    $LLMBudget::MADE = 0;
    wait_for(sub { ledger() }, 8);
}


sub call
{
    my (%opt) = @_;

    return post_json('/v1/chat/completions', {
        model => 'm-std', max_tokens => 50,
        $opt{body} ? %{$opt{body}} : (),
        messages => [{ role => 'user', content => 'abcd' }] }, %opt,
        body => undef, standin => $opt{standin} // 'out=3',
        headers => { Authorization => 'Bearer k1',
                     'X-Key' => $opt{key} // 'k1' });
}


sub served
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    is(call()->{status}, 200, 'a call is served');
}


# One that goes on for half a second, or until it is cut.

sub stream
{
    my (%opt) = @_;

    my $gap = $opt{gap} // 60;

    return call(no_read => 1, keep => 1, stream => 1, body => {
        stream => JSON::PP::true(),
        stream_options => { include_usage => JSON::PP::true() } },
        standin => $opt{wait} ? 'out=40; wait_after=5; count=body'
                              : "out=10; gap=$gap");
}


sub ended
{
    my ($stream) = @_;

    like(send_raw([], sock => $stream->{sock})->{body}, qr/\[DONE\]\n\n\z/,
         'a stream ends well');
}


# Another configuration, and no worker of the one before.

sub switch
{
    $nginx->reload(journal_conf(@_));
    wait_for(sub { $nginx->workers() == 1 });
}


sub restart
{
    my ($signal) = @_;

    $nginx->stop(signal => $signal, title => 'nginx stops',
                 allow => qr/exited on signal 9/);
    $nginx->start_again();
}


sub no_faults
{
    $proxy->set('pass');
}


# As a server that is down.

sub refuse
{
    $proxy->set('refuse');
}


1;
