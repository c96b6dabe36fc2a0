#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# Below the Redis store: a Sentinel that is out of date is not asked for ever,
# a server that was let go while its name was being resolved can come back, a
# journal is told to the store that it was written for and to no other, and
# nginx -t shows no password that stands at the wrong place.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Test::More;

use LLMBudget;
use LLMBudgetLoad;
use LLMBudgetRedis;


need_module();
need_redis();

my $owner = $$;
my @children;

my $dir = LLMBudget::new_dir();
my $standin = start_standin();

passwords();
stale_sentinel();
late_name();
journal_of_another('another prefix', '', ' prefix=other');
journal_of_another('another database', '', ' db=1');
journal_of_another('the address in other letters, the order of others',
                   ' cluster', ' cluster', same => 1);
done_testing();


END {
    my $status = $?;

    if ($owner == $$) {
        kill('KILL', @children);
        waitpid($_, 0) for @children;
    }

    $? = $status;
}


# ------------------------------------------------- what nginx -t shows

sub passwords
{
    for my $url ('redis://user:s3cret', 'redis://user:s3cret/1',
                 'redis://:s3cret', 'rediss://user:s3/cret')
    {
        my (undef, $text) = check_conf(llm_conf(redis => $url));

        like($text, qr/llm_budget: invalid (?:port|host) in the address/,
             "$url is refused");
        unlike($text, qr/s3/, '... without its password');
    }
}


# ---------------------------------------------------- who is the master

# The first Sentinel names a replica, for ever; the second one knows better.

sub stale_sentinel
{
    my $master = start_redis();
    my $replica = start_redis(replica_of => $master);
    my $stale = fake_sentinel('stale');
    my $right = fake_sentinel('right');

    write_file("$dir/stale", '127.0.0.1 ' . $replica->port());
    write_file("$dir/right", '127.0.0.1 ' . $master->port());

    my $nginx = start_nginx(conf => llm_conf(
        redis => "redis://127.0.0.1:$stale redis://127.0.0.1:$right "
                 . 'sentinel=m timeout=2s connect_timeout=2s'));

    ok(wait_for(sub { call() == 200 }, 15),
       'a Sentinel that names a replica is not the only one that is asked');
    like($nginx->log_text(), qr/is down: it is a replica/,
         '... but was asked first');
    balanced('the books agree');

    $nginx->stop();
    $_->stop() for $replica, $master;
}


# The name of the first master is being resolved when there is another one;
# then it is the master again.

sub late_name
{
    my @redis = map { start_redis() } 1, 2;
    my $sentinel = fake_sentinel('named');
    my $dns = fake_dns();

    my $name_it = sub {
        write_file("$dir/new", "$_[0].test " . $redis[$_[1]]->port());
        rename("$dir/new", "$dir/named") or die "rename: $!\n";
    };

    write_file("$dir/hold", '');
    $name_it->('slow', 0);

    my $nginx = start_nginx(conf => llm_conf(
        http => "    resolver 127.0.0.1:$dns ipv6=off;",
        redis => "redis://127.0.0.1:$sentinel sentinel=m timeout=1s"));

    ok(wait_for(sub { -s "$dir/asked" }), 'a name is asked for');
    $name_it->('quick', 1);
    ok(wait_for(sub { call() == 200 }, 15),
       'another server is used before it is known');

    unlink("$dir/hold");
    ok(wait_for(sub { -s "$dir/answered" }), 'it is known now');

    fresh_books($standin, $redis[1], $nginx);
    $name_it->('slow', 0);
    ok(wait_for(sub { $nginx->log_text()
                          =~ /the master of "m" is redis slow\.test/ }, 15),
       'and its server is the master again');
    ok(wait_for(sub { call() == 200 }, 15), '... and is used');
    balanced('... and has the books');

    $nginx->stop();
    $_->stop() for @redis;
}


# --------------------------------------------------- whose journal it is

# A line that could not be told is left when llm_budget_redis changes.

sub journal_of_another
{
    my ($title, $first, $second, %opt) = @_;

    my $redis = start_redis($opt{same} ? (cluster => 1, conf => [
        'cluster-enabled yes', 'cluster-config-file nodes.conf']) : ());
    my $port = $redis->port();

    $redis->cli('CLUSTER', 'ADDSLOTS', 0 .. 16383) if $opt{same};

    my @url = map { "redis://$_:$port" } '127.0.0.1', 'localhost', 'LOCALHOST';
    my @args = $opt{same} ? ("$url[0] $url[1]", "$url[2] $url[0]")
                          : ($url[0]) x 2;

    $args[0] .= "$first timeout=2s";
    $args[1] .= "$second timeout=2s";

    fresh_books($standin, $redis);

    my $nginx = start_nginx(conf => llm_conf(redis => $args[0],
                                             outage => 'allow'));

    $redis->pause();
    is(call(), 200, "$title: a call in an outage");
    ok(wait_for(sub { journal_left($nginx) == 1 }, 15),
       '... is in the journal');

    my $file = (journal_left($nginx))[0] =~ s/.*\///r;

    change($nginx, $args[1]);

    if (!$opt{same}) {

        # the server answers, and a worker that could tell it looks

        $redis->resume();
        ok(wait_for(sub { $nginx->log_text() =~ /\Q$file\E" is of another/ },
                    15), '... which is left alone by another store');
        is(spent(ledger(), 'all'), 0, '... that is not charged for it');
        is(journal_left($nginx), 1, '... and stays');
        change($nginx, $args[0]);
    }

    $redis->resume();
    ok(wait_for(sub { !journal_left($nginx) }, 15),
       'its own store takes it over');
    balanced('... and is charged');

    $nginx->stop();
    $redis->stop();
}


# The workers that had the journal are gone before it goes on.

sub change
{
    my ($nginx, $redis) = @_;

    my %old = map { $_ => 1 } $nginx->workers();

    $nginx->reload(llm_conf(redis => $redis, outage => 'allow'));
    wait_for(sub { !grep { $old{$_} } $nginx->workers() }, 15)
        or die "a worker does not end\n";
}


# ---------------------------------------------------------------- helpers

sub call
{
    return post_json('/v1/chat/completions', {
        model => 'm-std', max_tokens => 20,
        messages => [{ role => 'user', content => 'abcd' }] },
        headers => { Authorization => 'Bearer k' })->{status};
}


# A process that goes with the test: it calls code every 20 ms, or when one of
# its sockets can be read.

sub child
{
    my ($select, $code) = @_;

    my $pid = fork() // die "fork: $!\n";

    if ($pid) {
        push @children, $pid;
        return;
    }

    while (getppid() == $owner) {
        eval { $code->($_) for $select->can_read(0.02), undef; 1 }
            or warn $@;
    }

    POSIX::_exit(0);
}


# A Sentinel: the master is what a file says, "HOST PORT".

sub fake_sentinel
{
    my ($file) = @_;

    my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 16,
                                       Proto => 'tcp') or die "listen: $!\n";
    my $select = IO::Select->new($listen);
    my %text;

    child($select, sub {
        my ($sock) = @_;

        return unless $sock;
        return $select->add($listen->accept()) if $sock == $listen;

        if (!sysread($sock, $text{$sock}, 4096, length($text{$sock} // ''))) {
            $select->remove($sock);
            delete $text{$sock};
            return close($sock);
        }

        while ($text{$sock} =~ s/^.*?get-master-addr-by-name\r\n\$1\r\nm\r\n//s)
        {
            syswrite($sock, "*2\r\n" . join('', map {
                '$' . length($_) . "\r\n$_\r\n"
            } split(/ /, read_file("$dir/$file"))));
        }
    });

    return $listen->sockport();
}


# A name server: every name is 127.0.0.1; slow.test is not answered while there
# is a file "hold".

sub fake_dns
{
    my $sock = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
                                     Proto => 'udp') or die "bind: $!\n";
    my @held;

    child(IO::Select->new($sock), sub {
        my ($ready) = @_;

        if ($ready) {
            my $from = $sock->recv(my $query, 512);

            if ($query =~ /\x04slow/) {
                push @held, [$query, $from];
                write_file("$dir/asked", '1');

            } else {
                answer_dns($sock, $query, $from);
            }
        }

        if (@held && ! -e "$dir/hold") {
            answer_dns($sock, @$_) for splice(@held);
            write_file("$dir/answered", '1');
        }
    });

    return $sock->sockport();
}


sub answer_dns
{
    my ($sock, $query, $from) = @_;

    my ($id, $question) = unpack('a2 x10 a*', $query);

    $sock->send($id . pack('n5', 0x8180, 1, 1, 0, 0) . $question
                . pack('n3 N n a4', 0xc00c, 1, 1, 1, 4, "\x7f\0\0\1"),
                0, $from);
}
