package LLMBudgetRedis;

# Copyright (C) the ngx_http_llm_budget_module authors
#
# Private Redis servers for the system tests: one, with or without replicas
# and TLS, a cluster, Sentinels, and the proxy that fails as told.  See
# t/lib/README.

use strict;
use warnings;

use Exporter 'import';
use IO::Socket::INET;
use IO::Socket::UNIX;
use JSON::PP ();
use POSIX ();
use Test::More;
use Time::HiRes ();

use LLMBudget;


our @EXPORT = qw(
    find_redis ledger_dump need_redis start_cluster start_faults start_redis
    start_sentinels
);

my $OWNER = $$;
my $DEFAULT;                    # what LLMB_STORE asks for
my $KEEPER;                     # ends what a killed test leaves behind


sub find_redis
{
    for my $dir (split(/:/, $ENV{PATH} // ''), '/usr/sbin', '/usr/local/bin')
    {
        return "$dir/redis-server" if -x "$dir/redis-server" && ! -d _;
    }

    return undef;
}


# Skips the test file unless there is a redis-server.

sub need_redis
{
    plan(skip_all => 'no redis-server: run scripts/setup test')
        unless defined find_redis();
}


# ------------------------------------------------------------- one server

# Options:
#   port       => N: that port
#   unix       => 1: a unix socket, too; 'only': no port
#   appendonly => 1: what it was told survives kill9()
#   password   => text; user => name: an ACL user, and none without a
#                 password; rules => what he may, '~* +@all'
#   tls        => 1: a TLS port, too, with a throw-away CA; tls_name => the
#                 certificate's names, 'IP:127.0.0.1,DNS:localhost';
#                 tls_clients => 1: it wants certificates of clients
#   replica_of => another server; waits until it is in step
#   conf       => [lines of redis.conf]

sub start_redis
{
    my (%opt) = @_;

    my $self = bless { opt => \%opt, dir => LLMBudget::new_dir(),
                       kind => 'redis' }, 'LLMBudgetRedis::Server';

    $self->make_certificates() if $opt{tls};
    $self->launch_new(sub { $self->write_conf() });
    $self->in_step() if $opt{replica_of};

    return $self;
}


# -------------------------------------------------------------- a cluster

# Options: nodes => masters, replicas => of each, node_timeout => ms after
# which a silent node counts as dead, and those of start_redis().

sub start_cluster
{
    my (%opt) = @_;

    my $masters = delete $opt{nodes} // 3;
    my $replicas = delete $opt{replicas} // 0;
    my $timeout = delete $opt{node_timeout} // 5000;
    my @conf = ('cluster-enabled yes', "cluster-node-timeout $timeout",
                'cluster-config-file nodes.conf', @{$opt{conf} // []});

    my $self = bless { nodes => [] }, 'LLMBudgetRedis::Cluster';

    for (1 .. $masters * (1 + $replicas)) {
        push @{$self->{nodes}}, start_redis(%opt, cluster => 1,
                                            conf => \@conf);
    }

    $self->join($masters);

    return $self;
}


# ------------------------------------------------------------- Sentinels

# Options: master => a server, n => 3, name => 'm', quorum, down_after => ms,
# failover_timeout => ms, password => of the Sentinels themselves.

sub start_sentinels
{
    my (%opt) = @_;

    my $self = bless { nodes => [], name => $opt{name} // 'm' },
        'LLMBudgetRedis::Sentinels';
    my $n = $opt{n} // 3;
    my $replicas = () = $opt{master}->cli('INFO', 'replication')
                        =~ /^slave\d+:/mg;

    for (1 .. $n) {
        my $node = bless { opt => { password => $opt{password} },
                           dir => LLMBudget::new_dir(), kind => 'sentinel' },
            'LLMBudgetRedis::Server';

        $node->launch_new(sub {
            $node->write_sentinel_conf($self->{name}, $n, %opt);
        });
        push @{$self->{nodes}}, $node;
    }

    $self->know($n - 1, $replicas);

    return $self;
}


# ------------------------------------------------------------- the proxy

# A proxy before a server, or before "HOST:PORT" or "unix:PATH".

sub start_faults
{
    my ($redis) = @_;

    my $self = bless { dir => LLMBudget::new_dir(), kind => 'faults' },
        'LLMBudgetRedis::Faults';
    my $to = !ref $redis ? $redis
           : $redis->port() ? '127.0.0.1:' . $redis->port()
           : $redis->url();

    pipe(my $read, my $write) or die "pipe: $!\n";

    $self->{pid} = spawn($self, $write, $ENV{TEST_PYTHON} || 'python3',
        root() . '/scripts/redis-faults', '--listen', 0, '--control', 0,
        '--to', $to);

    close($write);

    my $line = <$read> // '';

    if ($line !~ /^listening on (\d+) control (\d+)/) {
        $self->discard();
        die "redis-faults did not start: $line\n" . $self->log_text();
    }

    ($self->{port}, $self->{control}) = ($1, $2);

    return $self;
}


# ----------------------------------------------------------- the ledger, raw

# The keys of a tag as they are: {accounts}, {holds} and {meta} are hashes,
# {due} and {closed} hashes of member => score; undef where there is no key.

sub ledger_dump
{
    my ($redis, $prefix, $tag) = @_;

    my %dump;

    for my $name (qw(accounts holds due closed meta)) {
        my $key = "$prefix\{$tag}:$name";
        my $node = $redis->can('node_of') ? $redis->node_of($key) : $redis;
        my $type = $node->cli('TYPE', $key);

        $dump{$name} = $type eq 'none' ? undef
            : { @{$type eq 'zset'
                  ? $node->cli('ZRANGE', $key, 0, -1, 'WITHSCORES')
                  : $node->cli('HGETALL', $key)} };
    }

    return \%dump;
}


# --------------------------------------------- what LLMB_STORE asks for

# The arguments of llm_budget_redis for the test file's own store, which the
# first call starts.

sub default_args
{
    # on a busy machine the tests of other things shall not see an outage

    my $more = 'timeout=5s connect_timeout=5s';

    if (($ENV{LLMB_STORE} // '') eq 'cluster') {
        $DEFAULT //= start_cluster(node_timeout => 15000);
        return join(' ', $DEFAULT->urls(), 'cluster', $more);
    }

    $DEFAULT //= start_redis();

    return $DEFAULT->url() . " $more";
}


# That store: a server or a cluster; undef: not used so far.

sub default_store
{
    return $DEFAULT;
}


# Empties it.

sub fresh
{
    return unless $DEFAULT && $$ == $OWNER;

    $_->cli('FLUSHALL') for $DEFAULT->masters();
}


# --------------------------------------------------------------- processes

# Runs a program in an object's folder; its standard output goes to a file
# handle, or to the log.

sub spawn
{
    my ($self, $out, @command) = @_;

    keeper();

    my $log = "$self->{dir}/$self->{kind}.err";
    my $pid = fork() // die "fork: $!\n";

    if ($pid == 0) {
        open(STDIN, '<', '/dev/null');
        open(STDERR, '>>', $log);
        $out ? open(STDOUT, '>&', $out) : open(STDOUT, '>>', $log);
        chdir($self->{dir}) or POSIX::_exit(127);
        { no warnings; exec(@command); }
        POSIX::_exit(127);
    }

    $LLMBudget::LIVE{$pid} = $self;
    syswrite($KEEPER, "$pid\n");

    return $pid;
}


sub ended
{
    my ($pid) = @_;

    delete $LLMBudget::LIVE{$pid};
    syswrite($KEEPER, "-$pid\n");
}


# A process that ends the others if this one is killed: then the pipe closes.

sub keeper
{
    return if $KEEPER;

    pipe(my $read, my $write) or die "pipe: $!\n";

    my $pid = fork() // die "fork: $!\n";

    if ($pid == 0) {
        close($write);
        open($_->[0], $_->[1], '/dev/null')
            for [\*STDIN, '<'], [\*STDOUT, '>'], [\*STDERR, '>'];
        POSIX::setsid();

        my %pids;

        while (my $line = <$read>) {
            $line =~ /^-(\d+)/ ? delete $pids{$1}
                               : $line =~ /^(\d+)/ && ($pids{$1} = 1);
        }

        kill('KILL', keys %pids) if %pids;
        POSIX::_exit(0);
    }

    close($read);
    $KEEPER = $write;
}


package LLMBudgetRedis::Error;

# An error reply within an answer: its text.

use strict;
use warnings;

use overload '""' => sub { ${$_[0]} }, fallback => 1;


package LLMBudgetRedis::Server;

use strict;
use warnings;


sub port
{
    return $_[0]{port};
}


sub pid
{
    return $_[0]{pid};
}


sub url
{
    my ($self) = @_;

    return $self->{port} ? "redis://127.0.0.1:$self->{port}"
                         : "unix:$self->{socket}";
}


sub unix_url
{
    return "unix:$_[0]{socket}";
}


sub tls_url
{
    return "rediss://127.0.0.1:$_[0]{tls_port}";
}


# A file of the throw-away CA: 'ca.crt', 'client.crt', 'client.key'; the
# 'other.crt' is of a CA that signed nothing here.

sub tls_file
{
    my ($self, $name) = @_;

    return "$self->{dir}/tls/$name";
}


sub masters
{
    return $_[0];
}


sub log_text
{
    my ($self) = @_;

    return join('', map { LLMBudget::read_file("$self->{dir}/$_") // '' }
                    "$self->{kind}.log", "$self->{kind}.err");
}


# ------------------------------------------------------------ life and death

# Ends it as "systemctl stop" does.

sub stop
{
    my ($self) = @_;

    my $pid = $self->{pid} // return;

    kill('TERM', $pid);
    kill('CONT', $pid);

    return $self->discard() unless LLMBudget::gone($pid, 5);

    delete $self->{pid};
    LLMBudgetRedis::ended($pid);
}


sub kill9
{
    my ($self) = @_;

    $self->discard();
}


sub discard
{
    my ($self) = @_;

    my $pid = delete $self->{pid} // return;

    kill('KILL', $pid);
    waitpid($pid, 0);
    LLMBudgetRedis::ended($pid);
}


# Accepts connections, as the kernel does that, and answers nothing.

sub pause
{
    my ($self) = @_;

    kill('STOP', $self->{pid});
    LLMBudget::wait_for(sub {
        my $stat = LLMBudget::read_file("/proc/$self->{pid}/stat") // '';
        return $stat =~ /\) [Tt] /;
    }) or die "redis does not stop\n";
}


sub resume
{
    my ($self) = @_;

    kill('CONT', $self->{pid});
}


# Starts it again on its port and in its folder, with what is on disk.

sub start_again
{
    my ($self) = @_;

    die "redis is running\n" if $self->{pid};

    # its port may be taken for a moment by some client's connection

    LLMBudget::wait_for(sub { $self->launch() }, 10)
        or die "redis did not start again:\n" . $self->log_text();
}


# The first start: with other ports if these were taken meanwhile.

sub launch_new
{
    my ($self, $write_conf) = @_;

    for (1 .. 5) {
        $write_conf->();
        return if $self->launch();
        last if $self->log_text() !~ /Address already in use|bind: /;
    }

    die "$self->{kind} did not start:\n" . $self->log_text();
}


# True once it answers; false if it ended.

sub launch
{
    my ($self) = @_;

    my $binary = LLMBudgetRedis::find_redis() // die "no redis-server\n";
    my @more = $self->{kind} eq 'sentinel' ? ('--sentinel') : ();

    my $pid = LLMBudgetRedis::spawn($self, undef, $binary,
                                    "$self->{dir}/redis.conf", @more);

    $self->{pid} = $pid;
    delete $self->{link};

    my $up = LLMBudget::wait_for(sub {
        return -1 if waitpid($pid, POSIX::WNOHANG()) != 0;
        return eval { $self->cli('PING') } ? 1 : 0;
    }, 20);

    return 1 if $up > 0;

    if ($up < 0) {
        delete $self->{pid};
        LLMBudgetRedis::ended($pid);

    } else {
        $self->discard();
    }

    return 0;
}


# ------------------------------------------------------------- configuration

sub write_conf
{
    my ($self) = @_;

    my $opt = $self->{opt};
    my $dir = $self->{dir};
    my $port = ($opt->{unix} // '') eq 'only' ? 0
             : $opt->{port} // ($opt->{cluster} ? cluster_port()
                                                : LLMBudget::free_port());

    $self->{port} = $port || undef;

    my @conf = ('bind 127.0.0.1', 'protected-mode no', "port $port",
                "dir $dir", "logfile $dir/redis.log", 'save ""',
                'appendonly ' . ($opt->{appendonly} ? 'yes' : 'no'),
                'appendfsync always', 'rdb-del-sync-files yes',
                'repl-diskless-sync-delay 0', 'repl-ping-replica-period 1');

    if ($opt->{unix}) {
        $self->{socket} = "$dir/s";
        push @conf, "unixsocket $dir/s";
    }

    if ($opt->{tls}) {
        $self->{tls_port} = LLMBudget::free_port();
        push @conf, "tls-port $self->{tls_port}",
            "tls-cert-file $dir/tls/server.crt",
            "tls-key-file $dir/tls/server.key",
            "tls-ca-cert-file $dir/tls/ca.crt",
            'tls-auth-clients ' . ($opt->{tls_clients} ? 'yes' : 'no');
    }

    if (defined $opt->{user}) {
        push @conf, 'user default off', "user $opt->{user} on "
            . ">$opt->{password} " . ($opt->{rules} // '~* +@all');

    } elsif (defined $opt->{password}) {
        push @conf, "requirepass $opt->{password}";
    }

    if (my $master = $opt->{replica_of}) {
        my ($user, $password) = @{$master->{opt}}{qw(user password)};

        push @conf, "replicaof 127.0.0.1 $master->{port}";
        push @conf, "masteruser $user" if defined $user;
        push @conf, "masterauth $password" if defined $password;
    }

    LLMBudget::write_file("$dir/redis.conf",
                          join("\n", @conf, @{$opt->{conf} // []}) . "\n");
}


sub write_sentinel_conf
{
    my ($self, $name, $n, %opt) = @_;

    my $dir = $self->{dir};
    my $master = $opt{master};
    my ($user, $password) = @{$master->{opt}}{qw(user password)};

    $self->{port} = LLMBudget::free_port();

    my @conf = ('bind 127.0.0.1', 'protected-mode no', "port $self->{port}",
        "dir $dir", "logfile $dir/sentinel.log",
        "sentinel monitor $name 127.0.0.1 $master->{port} "
        . ($opt{quorum} // int($n / 2) + 1),
        "sentinel down-after-milliseconds $name " . ($opt{down_after} // 500),
        "sentinel failover-timeout $name "
        . ($opt{failover_timeout} // 3000));

    push @conf, "sentinel auth-user $name $user" if defined $user;
    push @conf, "sentinel auth-pass $name $password" if defined $password;
    push @conf, "requirepass $opt{password}",
        "sentinel sentinel-pass $opt{password}" if defined $opt{password};

    LLMBudget::write_file("$dir/redis.conf", join("\n", @conf) . "\n");
}


# A free port whose bus, 10000 above, is free, too.

sub cluster_port
{
    for (1 .. 200) {
        my $port = LLMBudget::free_port();

        next if $port > 55000;

        my $bus = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
            LocalPort => $port + 10000, Proto => 'tcp', Listen => 1);

        return $port if $bus;
    }

    die "no free ports for a cluster\n";
}


sub make_certificates
{
    my ($self) = @_;

    my $dir = "$self->{dir}/tls";
    my $names = $self->{opt}{tls_name} // 'IP:127.0.0.1,DNS:localhost';
    my $key = '-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes';

    mkdir($dir) or die "$dir: $!\n";
    LLMBudget::write_file("$dir/ext", "subjectAltName=$names\n");

    my $text = qx{cd "$dir" && (
        for ca in ca other; do
            openssl req -x509 $key -days 30 -subj /CN=\$ca-of-a-test \\
                -keyout \$ca.key -out \$ca.crt || exit 1
        done

        for name in server client; do
            openssl req -new $key -subj /CN=\$name -keyout \$name.key \\
                -out \$name.csr \\
            && openssl x509 -req -in \$name.csr -CA ca.crt -CAkey ca.key \\
                -set_serial \$\$ -days 30 -extfile ext -out \$name.crt \\
                || exit 1
        done) 2>&1};

    die "openssl: $text\n" if $? != 0;
}


# Waits until a replica is in step with its master.

sub in_step
{
    my ($self) = @_;

    LLMBudget::wait_for(sub {
        return $self->cli('INFO', 'replication') =~ /^master_link_status:up/m;
    }, 15) or die "the replica finds no master:\n" . $self->log_text();
}


# ------------------------------------------------------------------- talking

# Sends a command and returns its answer: text, number, undef or a list.  An
# error reply dies; try_cli() returns it.

sub cli
{
    my ($self, @args) = @_;

    my $answer = $self->try_cli(@args);

    die "redis: $args[0]: $answer\n"
        if ref $answer eq 'LLMBudgetRedis::Error';

    return $answer;
}


sub try_cli
{
    my ($self, @args) = @_;

    my $link = $self->{link};

    # one of a process that forked, or one that the server has closed

    undef $link if $link && ($link->{owner} != $$ || $link->stale());

    $link //= $self->{link} = $self->connect();

    my $answer = eval { $link->ask(@args) };

    if ($@ ne '') {
        delete $self->{link};
        die $@;
    }

    return $answer;
}


# A connection of one's own, authenticated: ->ask(@args), ->write($bytes),
# ->read(), ->closed().

sub connect
{
    my ($self) = @_;

    my $link = $self->{port}
        ? LLMBudgetRedis::Link->new($self->{port})
        : LLMBudgetRedis::Link->new(undef, $self->{socket});

    my $opt = $self->{opt};

    if (defined $opt->{password}) {
        my $answer = $link->ask('AUTH', grep { defined }
                                $opt->{user}, $opt->{password});
        die "redis: AUTH: $answer\n" if ref $answer;
    }

    return $link;
}


package LLMBudgetRedis::Cluster;

use strict;
use warnings;


sub nodes
{
    return @{$_[0]{nodes}};
}


sub urls
{
    return map { $_->url() } @{$_[0]{nodes}};
}


# Nodes that run and take commands.

sub living
{
    return grep { $_->{pid} } @{$_[0]{nodes}};
}


# As those that live see it.

sub masters
{
    my ($self) = @_;

    return grep { $_->cli('ROLE')->[0] eq 'master' } $self->living();
}


sub replicas
{
    my ($self) = @_;

    return grep { $_->cli('ROLE')->[0] ne 'master' } $self->living();
}


sub join
{
    my ($self, $masters) = @_;

    my @nodes = @{$self->{nodes}};
    my @all = (0 .. 16383);

    $_->{id} = $_->cli('CLUSTER', 'MYID') for @nodes;

    for my $i (0 .. $masters - 1) {
        my $from = int(16384 * $i / $masters);
        my $to = int(16384 * ($i + 1) / $masters) - 1;

        $nodes[$i]->cli('CLUSTER', 'ADDSLOTS', @all[$from .. $to]);
        $nodes[$i]->cli('CLUSTER', 'SET-CONFIG-EPOCH', $i + 1);
    }

    for my $node (@nodes[1 .. $#nodes]) {
        $nodes[0]->cli('CLUSTER', 'MEET', '127.0.0.1', $node->{port});
    }

    $self->settled(scalar(@nodes));

    for my $i ($masters .. $#nodes) {
        $nodes[$i]->cli('CLUSTER', 'REPLICATE',
                        $nodes[$i % $masters]{id});
    }

    $_->in_step() for @nodes[$masters .. $#nodes];

    # every node knows every replica

    LLMBudget::wait_for(sub {
        return !grep {
            my $n = () = $_->cli('CLUSTER', 'NODES') =~ / (?:myself,)?slave /g;
            $n != @nodes - $masters;
        } @nodes;
    }, 15) or die "the cluster's replicas are not known\n";
}


# Waits until all living nodes say that all slots are served.

sub settled
{
    my ($self, $known) = @_;

    LLMBudget::wait_for(sub {
        for my $node ($self->living()) {
            my $info = $node->cli('CLUSTER', 'INFO');

            return 0 if $info !~ /^cluster_state:ok/m
                || $info !~ /^cluster_slots_ok:16384/m
                || (defined $known
                    && $info !~ /^cluster_known_nodes:$known\r?$/m);
        }

        return 1;
    }, 30) or die "the cluster is not well:\n"
        . $self->{nodes}[0]->cli('CLUSTER', 'NODES');
}


sub slot_of
{
    my ($self, $key) = @_;

    return ($self->living())[0]->cli('CLUSTER', 'KEYSLOT', $key);
}


# The master of a key, or of a slot's number, as the first living node knows
# it.

sub node_of
{
    my ($self, $key) = @_;

    my $slot = $key =~ /^\d+$/ ? $key : $self->slot_of($key);

    for my $range (@{($self->living())[0]->cli('CLUSTER', 'SLOTS')}) {
        my ($from, $to, $master) = @$range;

        next if $slot < $from || $slot > $to;

        return (grep { $_->{port} == $master->[1] } $self->nodes())[0];
    }

    return undef;
}


# Begins to move a slot: the first node answers ASK for what it has not, the
# second serves it after ASKING.  Options: keys => 'none': they stay (half of
# them there and half here is TRYAGAIN; keys => N moves so many); finish => 1:
# to its end.

sub migrate_slot
{
    my ($self, $slot, $from, $to, %opt) = @_;

    my $move = $opt{keys} // 'all';

    $to->cli('CLUSTER', 'SETSLOT', $slot, 'IMPORTING', $from->{id});
    $from->cli('CLUSTER', 'SETSLOT', $slot, 'MIGRATING', $to->{id});

    $self->move_keys($slot, $from, $to, $move eq 'all' ? undef : $move)
        if $move ne 'none';
    $self->finish_slot($slot, $from, $to) if $opt{finish};
}


sub move_keys
{
    my ($self, $slot, $from, $to, $n) = @_;

    my @keys = sort @{$from->cli('CLUSTER', 'GETKEYSINSLOT', $slot,
                                 1_000_000)};

    splice(@keys, $n) if defined $n && $n < @keys;
    $from->cli('MIGRATE', '127.0.0.1', $to->{port}, '', 0, 5000, 'KEYS',
               @keys) if @keys;
}


# The second node is the slot's, and all know it.

sub finish_slot
{
    my ($self, $slot, $from, $to) = @_;

    $self->move_keys($slot, $from, $to);

    for my $node ($to, grep { $_ != $to } $self->masters()) {
        $node->cli('CLUSTER', 'SETSLOT', $slot, 'NODE', $to->{id});
    }
}


# A master's replica takes over; returns the new master.  force => 1: without
# asking anybody, as when the old one is dead.

sub failover
{
    my ($self, $master, %opt) = @_;

    my ($new) = grep {
        $_ != $master && $_->cli('INFO', 'replication')
            =~ /^master_port:$master->{port}\r?$/m
    } $self->living();

    die "the node has no replica\n" unless $new;

    LLMBudget::wait_for(sub {
        $new->try_cli('CLUSTER', 'FAILOVER', $opt{force} ? 'TAKEOVER' : ());
        return LLMBudget::wait_for(sub {
            return $new->cli('ROLE')->[0] eq 'master';
        }, 2);
    }, 20) or die "no failover\n";

    # all others know it

    LLMBudget::wait_for(sub {
        return !grep {
            $_->cli('CLUSTER', 'NODES')
                !~ /^$new->{id} \S+ (?:myself,)?master .*connected \S+/m;
        } $self->living();
    }, 10) or die "not all nodes know of the failover\n";

    return $new;
}


sub stop
{
    $_->stop() for @{$_[0]{nodes}};
}


package LLMBudgetRedis::Sentinels;

use strict;
use warnings;


sub nodes
{
    return @{$_[0]{nodes}};
}


sub name
{
    return $_[0]{name};
}


sub urls
{
    return map { $_->url() } @{$_[0]{nodes}};
}


# "127.0.0.1:PORT", as the first living one says.

sub master_address
{
    my ($self) = @_;

    my ($node) = grep { $_->{pid} } @{$self->{nodes}};
    my $address = $node->cli('SENTINEL', 'GET-MASTER-ADDR-BY-NAME',
                             $self->{name});

    return $address && join(':', @$address);
}


# Waits until all of them name that server, or another one than that.

sub agree_on
{
    my ($self, $redis, %opt) = @_;

    my $want = '127.0.0.1:' . $redis->port();

    return LLMBudget::wait_for(sub {
        return !grep {
            my $address = join(':', @{$_->cli('SENTINEL',
                'GET-MASTER-ADDR-BY-NAME', $self->{name}) // []});
            $opt{not} ? $address eq $want : $address ne $want;
        } grep { $_->{pid} } @{$self->{nodes}};
    }, $opt{wait} // 20);
}


# Makes them choose another master, although the old one lives.

sub failover
{
    my ($self) = @_;

    my ($node) = grep { $_->{pid} } @{$self->{nodes}};

    LLMBudget::wait_for(sub {
        return $node->try_cli('SENTINEL', 'FAILOVER', $self->{name}) eq 'OK';
    }, 10) or die "the Sentinels do not fail over\n";
}


# Waits until each knows so many others and so many replicas.

sub know
{
    my ($self, $others, $replicas) = @_;

    LLMBudget::wait_for(sub {
        for my $node (@{$self->{nodes}}) {
            my %state = @{$node->cli('SENTINEL', 'MASTER', $self->{name})};

            return 0 if $state{'num-other-sentinels'} < $others
                || $state{'num-slaves'} < $replicas
                || $state{flags} ne 'master';
        }

        return 1;
    }, 30) or die "the Sentinels do not find each other\n";
}


sub stop
{
    $_->stop() for @{$_[0]{nodes}};
}


package LLMBudgetRedis::Faults;

use strict;
use warnings;

our @ISA = ('LLMBudgetRedis::Server');


# Tells the proxy what to do from the next command on.

sub set
{
    my ($self, $line) = @_;

    my $answer = $self->tell($line);

    die "redis-faults: $line: $answer\n" if $answer ne 'ok';
}


sub stats
{
    return JSON::PP->new->decode($_[0]->tell('stats'));
}


sub tell
{
    my ($self, $line) = @_;

    my $sock = LLMBudgetRedis::Link->new($self->{control});

    $sock->write("$line\n");

    return $sock->line() =~ s/\s+\z//r;
}


package LLMBudgetRedis::Link;

# One connection that speaks RESP.

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;


sub new
{
    my ($class, $port, $path) = @_;

    my $sock = defined $path
        ? IO::Socket::UNIX->new(Peer => $path)
        : IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port,
                                Proto => 'tcp');

    die 'cannot connect to ' . ($path // "port $port") . ": $!\n"
        unless $sock;

    return bless { sock => $sock, rest => '', owner => $$, timeout => 10 },
        $class;
}


sub ask
{
    my ($self, @args) = @_;

    $self->write(command(@args));

    return $self->read();
}


# The bytes of a command.

sub command
{
    my (@args) = @_;

    for my $arg (@args) {
        utf8::encode($arg) if utf8::is_utf8($arg);
    }

    return '*' . @args . "\r\n"
        . CORE::join('', map { '$' . length($_) . "\r\n$_\r\n" } @args);
}


sub write
{
    my ($self, $data) = @_;

    LLMBudget::write_all($self->{sock}, $data)
        or die "redis: cannot write: $!\n";
}


# The next answer.

sub read
{
    my ($self) = @_;

    no warnings 'recursion';

    my $line = $self->line();

    $line =~ s/^(.)(.*)\r\n\z/$2/s or die "redis: not RESP: $line\n";

    my $type = $1;

    return $line if $type eq '+' || ($type eq ':' && $line =~ /^-?\d+$/);
    return bless \$line, 'LLMBudgetRedis::Error' if $type eq '-';
    return undef if $line eq '-1';

    die "redis: not RESP: $type$line\n"
        if $line !~ /^\d+$/ || $type !~ /^[*\$]$/;

    if ($type eq '*') {
        my @list;

        push @list, $self->read() while @list < $line;

        return \@list;
    }

    $self->more() while length($self->{rest}) < $line + 2;

    my $text = substr($self->{rest}, 0, $line + 2, '');

    return substr($text, 0, $line);
}


sub line
{
    my ($self) = @_;

    $self->more() while $self->{rest} !~ /\n/;
    $self->{rest} =~ s/^(.*?\n)//s;

    return $1;
}


sub more
{
    my ($self) = @_;

    IO::Select->new($self->{sock})->can_read($self->{timeout})
        or die "redis: no answer in $self->{timeout} s\n";

    my $n = sysread($self->{sock}, $self->{rest}, 65536,
                    length($self->{rest}));

    die 'redis: connection ' . (defined $n ? 'closed' : "lost: $!")
        . " after \"$self->{rest}\"\n" unless $n;
}


# Whether there is anything to read, if only the end.

sub stale
{
    my ($self) = @_;

    return IO::Select->new($self->{sock})->can_read(0);
}


1;
