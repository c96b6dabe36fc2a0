#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# Connecting to a Redis: TLS with certificates that are right and wrong, and
# passwords, which no log has; and what is looked at before a server is used,
# its version, its role, and whether it evicts keys (T64).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;

use LLMBudget;
use LLMBudgetRedis;


my $SECRET = 's3cret-of-redis';

need_module();
need_redis();
start_standin();

tls();
passwords();
versions();
replica();
eviction();
done_testing();


# --------------------------------------------------------------------- TLS

sub tls
{
    my $redis = start_redis(tls => 1, password => $SECRET,
                            tls_name => 'IP:127.0.0.1,DNS:redis.test');
    my $url = $redis->tls_url();
    my $port = $redis->{tls_port};
    my $plain = $redis->port();
    my $more = "password=$SECRET timeout=3s connect_timeout=3s";
    my %file = map { $_ => $redis->tls_file($_) }
        qw(ca.crt other.crt client.crt client.key);
    my $ca = "ca=$file{'ca.crt'}";

    # [ title, arguments; what the log says, or nothing: it works ]

    for my $case (
        ['the certificate has the address', "$url $ca"],
        ['the name is told', "$url $ca name=redis.test"],
        ['the name is told in capitals', "$url $ca name=Redis.Test"],
        ['the name is told as an address', "$url $ca name=127.0.0.1"],
        ['nothing is verified', "$url verify=off"],
        ['nothing is verified, with another name',
         "$url verify=off name=other.test"],
        ['the password is in the URL',
         "rediss://:$SECRET\@127.0.0.1:$port $ca"],
        ['the system does not know the CA', $url,
         qr/its certificate is not valid \(\d+: [a-z -]+\)/],
        ['the CA is another', "$url ca=$file{'other.crt'}",
         qr/its certificate is not valid \(\d+: [a-z -]+\)/],
        ['the name is another', "$url $ca name=other.test",
         'its certificate is not for "other.test"'],
        ['the host is another', "rediss://localhost:$port $ca",
         'its certificate is not for "localhost"'],
        ['the address is another', "$url $ca name=127.0.0.2",
         'its certificate is not for "127.0.0.2"'],
        ['the server has no TLS', "rediss://127.0.0.1:$plain $ca "
         . "password=$SECRET connect_timeout=500ms timeout=3s",
         qr/TLS handshake failed.*/],
        ['the server has TLS', "redis://127.0.0.1:$port",
         qr/it closed the connection|recv\(\) failed .*|no answer of Redis.*/],
        )
    {
        my ($name, $args, $line) = @$case;

        $args .= " password=$SECRET" if $args !~ /\Q$SECRET/;
        $args .= ' timeout=3s connect_timeout=3s' if $args !~ /timeout/;
        attempt($redis, $name, $args, $line);
    }

    # a certificate of the client

    $redis->cli('CONFIG', 'SET', 'tls-auth-clients', 'yes');
    attempt($redis, 'the server wants a certificate', "$url $ca $more",
            'it ended TLS before its first answer: it may want a certificate, '
            . 'or another one');
    attempt($redis, 'the server gets a certificate', "$url $ca $more "
            . "certificate=$file{'client.crt'} "
            . "certificate_key=$file{'client.key'}");
    $redis->cli('CONFIG', 'SET', 'tls-auth-clients', 'no');

    # one that has expired, and is renewed

    my $dir = $redis->tls_file('');

    openssl($dir, 'req -new -key server.key -subj /CN=server -out old.csr',
            'x509 -req -in old.csr -CA ca.crt -CAkey ca.key -set_serial 77 '
            . '-days -1 -extfile ext -out old.crt');
    $redis->cli('CONFIG', 'SET', 'tls-cert-file', "${dir}old.crt",
                'tls-key-file', "${dir}server.key");
    attempt($redis, 'the certificate has expired', "$url $ca $more",
            'its certificate is not valid (10: certificate has expired)',
            sub {
                $redis->cli('CONFIG', 'SET', 'tls-cert-file',
                            "${dir}server.crt");
            });

    unlike($redis->log_text(), qr/\Q$SECRET/,
           'the log of Redis has no password either');
    $redis->stop();
}


sub openssl
{
    my ($dir, @commands) = @_;

    for my $command (@commands) {
        my $text = qx{cd "$dir" && openssl $command 2>&1};

        die "openssl $command: $text\n" if $? != 0;
    }
}


# A call with those arguments of llm_budget_redis: it works, or else is refused
# with one line in the log, until the sub has mended it.

sub attempt
{
    my ($redis, $name, $args, $line, $mend) = @_;

    $LLMBudget::STANDIN->reset();
    $redis->cli('FLUSHALL');

    my $nginx = start_nginx(log_level => 'debug', conf => llm_conf(
        redis => $args));
    my $calls = 1;

    if (!defined $line) {
        is(call()->{status}, 200, "$name: calls are served");

    } else {
        my $answer = call();

        $line = qr/\Q$line\E/ unless ref $line;

        is($answer->{status}, 503, "$name: calls are refused");
        is($answer->{headers}{'x-llm-budget-outage'}, 'deny',
           '... by the policy');
        is($LLMBudget::STANDIN->stats()->{requests}, 0,
           '... the provider gets nothing');

        my @lines = map { /^\S+ \S+ (.*llm_budget: .*is down.*)$/ }
            split(/\n/, $nginx->log_text());

        is(scalar(@lines), 1, '... one line says why');
        like($lines[0],
             qr/^\[error\] [\d#]+: llm_budget: redis \S+ is down: $line$/,
             '... and is clear');
        is($redis->cli('DBSIZE'), 0, '... and nothing is written');
    }

    if ($mend) {
        $mend->();
        ok(wait_for(sub { $calls++; call()->{status} == 200 }, 10),
           '... until it is mended');
    }

    no_secret($nginx);
    balanced('... and its books agree', lines => $calls) if !$line || $mend;
    $nginx->stop();
}


sub no_secret
{
    my ($nginx) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    for my $file (glob("$nginx->{dir}/*.log $nginx->{dir}/logs/*")) {
        unlike(read_file($file), qr/\Q$SECRET/,
               '... ' . $file =~ s{.*/}{}r . ' has no password');
    }
}


# --------------------------------------------------------------- passwords

sub passwords
{
    my $redis = start_redis(password => $SECRET);
    my $open = start_redis();
    my $url = $redis->url();
    my $long = 'Long-' x 100;
    my $odd = "a b\"c\\d'e;f\$g{h}#%&/";
    my $text = $odd =~ s/(["\\])/\\$1/gr;

    attempt($redis, 'a password', "$url password=$SECRET timeout=3s");
    attempt($redis, 'none', "$url timeout=3s", qr/NOAUTH Authentication .*/);
    attempt($redis, 'a user that is not known',
            "$url user=nobody password=$SECRET timeout=3s",
            qr/AUTH was refused: WRONGPASS .*/);
    attempt($open, 'a server without passwords',
            $open->url() . " password=$SECRET timeout=3s",
            qr/AUTH was refused: (?!.*$SECRET).*/);
    $redis->cli('ACL', 'SETUSER', 'odd', 'on', ">$odd", '~*', '+@all');
    write_file("$LLMBudget::BUILD/servroot/odd-$$", "$odd\n");
    attempt($redis, 'a password of odd bytes, of a file',
            "$url user=odd password=file:$LLMBudget::BUILD/servroot/odd-$$ "
            . 'timeout=3s');
    unlink("$LLMBudget::BUILD/servroot/odd-$$");
    $redis->cli('ACL', 'SETUSER', 'default', "resetpass", ">$long");
    $redis->{opt}{password} = $long;
    attempt($redis, 'a wrong password, until it is changed',
            "$url password=$SECRET timeout=3s",
            qr/AUTH was refused: WRONGPASS .*/, sub {
                $redis->cli('ACL', 'SETUSER', 'default', ">$SECRET");
            });
    attempt($redis, 'a long password', "$url password=$long timeout=3s");
    $_->stop() for $redis, $open;
}


# ------------------------------------------------ what is asked of a server

sub versions
{
    my $redis = start_redis();
    my $proxy = start_faults($redis);
    my $url = $proxy->url();

    for my $case (
        ['redis_version:4.0.14',
         'its version is below 5.0, the oldest that will do'],
        ['redis_version:0.1', 'its version is below 5.0, the oldest that will '
         . 'do'],
        ['redis_version:5.0.0'], ['redis_version:10.0.0'],
        ['redis_version:unstable'], ['other:1'],
        ['redis_version:7.0.0\r\nloading:1', 'it is loading its data'],
        ['redis_version:7.0.0\r\nrole:slave', 'it is a replica'],
        ['redis_version:7.0.0\r\nredis_mode:standalone',
         'it is of no cluster: leave out "cluster" for it', 'cluster'])
    {
        my ($info, $line, $more) = @$case;
        my $len = length($info =~ s/\\r\\n/12/gr) + 2;

        $proxy->set("reply match=INFO \$$len\\r\\n$info\\r\\n\\r\\n");
        attempt($redis, $info, "$url timeout=3s " . ($more // ''), $line,
                $line && !$more && sub { $proxy->set('pass') });
    }

    $_->stop() for $proxy, $redis;
}


sub replica
{
    my $master = start_redis();
    my $redis = start_redis(replica_of => $master);

    $LLMBudget::STANDIN->reset();

    my $nginx = start_nginx(conf => llm_conf(
        redis => $redis->url() . ' timeout=3s'));

    is(call()->{status}, 503, 'a replica is not used');
    like($nginx->log_text(), qr/is down: it is a replica$/m,
         '... as the log says');
    $redis->cli('REPLICAOF', 'NO', 'ONE');
    ok(wait_for(sub { call()->{status} == 200 }, 10),
       '... but as a master it is');

    $redis->cli('REPLICAOF', '127.0.0.1', $master->port());
    $redis->in_step();
    is(call()->{status}, 503, '... until it is a replica again');
    ok(wait_for(sub {
        $nginx->log_text() =~ /is up again.*is down: (?:READONLY|it is a rep)/s
    }), '... as the log says') or diag($nginx->log_tail());
    $redis->cli('REPLICAOF', 'NO', 'ONE');
    $redis->cli('FLUSHALL');
    $LLMBudget::STANDIN->reset();
    ok(wait_for(sub { call()->{status} == 200 }, 10), '... and back');
    is($LLMBudget::STANDIN->stats()->{requests}, 1,
       '... and no call reached the provider in between');
    $nginx->stop();
    $_->stop() for $redis, $master;
}


# T64: an evicted budget would be a new one

sub eviction
{
    my $redis = start_redis(conf => ['maxmemory-policy allkeys-lru']);
    my $nginx = start_nginx(conf => llm_conf(
        redis => $redis->url() . ' timeout=3s connections=2'));
    my $count = sub {
        my ($policy) = @_;

        return scalar(grep {
            /evicts keys \(maxmemory-policy $policy\): budgets can be /
            && /be forgotten; set noeviction$/
        } split(/\n/, $nginx->log_text()));
    };

    $LLMBudget::STANDIN->reset();
    is(call()->{status}, 200, 'a Redis that evicts is used');
    is($count->('allkeys-lru'), 1, '... but the log warns, once');
    like($nginx->log_text(), qr/\[error\].*evicts keys/, '... loudly');

    # a connection that is made anew, later

    $redis->cli('CONFIG', 'SET', 'maxmemory-policy', 'volatile-ttl');
    ok(wait_for(sub {
        $redis->cli('CLIENT', 'KILL', 'TYPE', 'normal');
        wait_for(sub { call() && $count->('volatile-ttl') }, 1);
    }, 10), '... each time it connects');
    like($nginx->log_text(), qr/\[warn\].*policy volatile-ttl/,
         '... less loudly where keys without an expiry are kept');
    ok(wait_for(sub { call()->{status} == 200 }), 'calls go on');
    is(ledger()->{stat}{pending} // 'none', 0, '... and the ledger is well');
    $nginx->stop();

    $redis->cli('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
    $nginx = start_nginx(conf => llm_conf(
        redis => $redis->url() . ' timeout=3s connections=2'));
    is(call()->{status}, 200, 'one that does not is used, too');
    unlike($nginx->log_text(), qr/evict/, '... without a word');
    $nginx->stop();
    $redis->stop();
}


sub call
{
    return post_json('/v1/chat/completions',
        { model => 'm-std', messages => [{ role => 'user',
                                           content => 'abcd' }] },
        headers => { Authorization => 'Bearer k' }, standin => 'out=20');
}
