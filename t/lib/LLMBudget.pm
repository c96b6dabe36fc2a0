package LLMBudget;

# Copyright (C) the ngx_http_llm_budget_module authors
#
# Helpers of the system tests: a private nginx, the stand-in provider, an
# HTTP client that can misbehave, and the standing check that what the
# provider billed, the ledger and the usage log agree.  See t/lib/README.

use strict;
use warnings;

use Cwd ();
use Exporter 'import';
use File::Basename ();
use File::Path ();
use IO::Handle;
use IO::Select;
use IO::Socket::INET;
use JSON::PP ();
use POSIX ();
use Socket qw(SOL_SOCKET SO_LINGER SO_RCVBUF);
use Storable ();
use Test::More;
use Time::HiRes ();


our @EXPORT = qw(
    api balanced balances check_conf find_module find_nginx free_port get
    ledger ledger_settled llm_conf need_module need_zone_store parallel
    post_json prices read_file request request_text root send_raw sleep_ms
    spent start_nginx start_standin usage_lines vectors wait_for write_file
);

our $ROOT = File::Basename::dirname(File::Basename::dirname(
    File::Basename::dirname(Cwd::abs_path(__FILE__))));

our $BUILD = $ENV{LLMB_BUILD} || "$ROOT/build";

our $STANDIN;                   # the last ones started: what the helpers use
our $NGINX;
our $MADE = 0;                  # requests made to metered locations
our $TIMEOUT = $ENV{TEST_NGINX_TIMEOUT} || 15;

my $OWNER = $$;
my @DIRS;
my $FAILED = 0;
our %LIVE;                      # pid => object, for LLMBudgetRedis, too
my %GIVEN;                      # ports given out
my $JSON = JSON::PP->new->canonical->allow_nonref;

$SIG{PIPE} = 'IGNORE';


# ------------------------------------------------------------- small things

sub root
{
    return $ROOT;
}


# The fixture price map.

sub prices
{
    return "$ROOT/t/fixtures/prices.json";
}


# The folder of recorded provider traffic, or undef: then skip.

sub vectors
{
    my $dir = $ENV{TEST_VECTORS} || "$ROOT/../shared/vectors";

    return -d $dir ? $dir : undef;
}


sub sleep_ms
{
    my ($ms) = @_;

    Time::HiRes::sleep($ms / 1000);
}


# Waits until the sub is true; its last value.

sub wait_for
{
    my ($sub, $seconds) = @_;

    my $end = Time::HiRes::time() + ($seconds // 5);

    while (1) {
        my $value = $sub->();

        return $value if $value || Time::HiRes::time() > $end;

        Time::HiRes::sleep(0.02);
    }
}


sub read_file
{
    my ($path) = @_;

    open(my $fh, '<:raw', $path) or return undef;
    local $/;
    my $text = <$fh>;

    return $text // '';
}


sub write_file
{
    my ($path, $text) = @_;

    open(my $fh, '>:raw', $path) or die "cannot write $path: $!\n";
    print $fh $text;
    close($fh) or die "cannot write $path: $!\n";

    return $path;
}


sub free_port
{
    for (1 .. 200) {
        my $sock = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
            LocalPort => 0, Proto => 'tcp', Listen => 1)
            or die "no free port: $!\n";

        my $port = $sock->sockport();
        close($sock);

        return $port unless $GIVEN{$port}++;
    }

    die "no free port\n";
}


# ------------------------------------------------------------- the stand-in

# Options: prices => FILE, vectors => DIR, port => N.

sub start_standin
{
    my (%opt) = @_;

    my @args = ('--port', $opt{port} // 0, '--quiet');
    my $prices = exists $opt{prices} ? $opt{prices}
                                     : -e prices() ? prices() : undef;
    my $vectors = exists $opt{vectors} ? $opt{vectors} : vectors();

    push @args, '--prices', $prices if defined $prices;
    push @args, '--vectors', $vectors if defined $vectors;

    pipe(my $read, my $write) or die "pipe: $!\n";

    my $pid = fork() // die "fork: $!\n";

    if ($pid == 0) {
        open(STDOUT, '>&', $write) or POSIX::_exit(127);
        close($read);
        { no warnings; exec($ENV{TEST_PYTHON} || 'python3',
                            "$ROOT/scripts/standin", @args); }
        POSIX::_exit(127);
    }

    close($write);

    my $line = <$read>;

    if (($line // '') !~ /^listening on (\d+)/) {
        waitpid($pid, 0);
        die "the stand-in did not start\n";
    }

    $STANDIN = bless { pid => $pid, port => $1, out => $read },
        'LLMBudget::StandIn';
    $LIVE{$pid} = $STANDIN;
    $GIVEN{$1}++;

    return $STANDIN;
}


# ------------------------------------------------------------------- nginx

sub find_nginx
{
    return $ENV{TEST_NGINX_BINARY} if $ENV{TEST_NGINX_BINARY};

    for my $dir (split(/:/, $ENV{PATH} // ''), '/usr/sbin', '/usr/local/sbin')
    {
        return "$dir/nginx" if -x "$dir/nginx" && ! -d _;
    }

    return undef;
}


# The dynamic module; '' if nginx has it built in, undef if there is none.

sub find_module
{
    return $ENV{TEST_NGINX_MODULE} if defined $ENV{TEST_NGINX_MODULE};

    my $path = "$BUILD/ngx_http_llm_budget_module.so";

    return -f $path ? $path : undef;
}


# Skips the whole test file unless module and nginx are there, and what
# LLMB_STORE asks for.

sub need_module
{
    plan(skip_all => "no nginx found") unless defined find_nginx();
    plan(skip_all => "no module: run scripts/build")
        unless defined find_module();

    if (store_kind() ne 'zone') {
        require LLMBudgetRedis;
        LLMBudgetRedis::need_redis();
    }
}


# Skips the whole test file when it would not run on the store in the zone,
# which is its subject.

sub need_zone_store
{
    plan(skip_all => 'the store in the zone is its subject, and LLMB_STORE='
                     . store_kind())
        unless store_kind() eq 'zone';
}


# The store of configurations that name none: zone, redis or cluster.

sub store_kind
{
    my $kind = $ENV{LLMB_STORE} || 'zone';

    die "LLMB_STORE=$kind: not zone, redis or cluster\n"
        unless $kind =~ /^(?:zone|redis|cluster)$/;

    return $kind;
}


# Options: conf => text; workers, standin, module => path or '' for none,
# log_level, files => {name => text} written to the folder, main => text,
# fail => 1 (it may fail to start: then {pid} is not set), shared => 1: leave
# what LLMB_STORE's Redis has, which is emptied else.

sub start_nginx
{
    my (%opt) = @_;

    my $self = new_nginx(%opt);

    LLMBudgetRedis::fresh() if $INC{'LLMBudgetRedis.pm'} && !$opt{shared};

    $self->launch();

    return $self if $opt{fail} && !$self->{pid};

    die "nginx did not start:\n" . $self->log_tail() . "\n"
        unless $self->{pid};

    $NGINX = $self;

    return $self;
}


# What "nginx -t" says of a configuration: (passed, text).

sub check_conf
{
    my ($conf, %opt) = @_;

    my $self = new_nginx(%opt, conf => $conf);
    my $dir = $self->{dir};
    my $text = qx("$self->{binary}" -p "$dir/" -e stderr \\
                  -c "$dir/nginx.conf" -t 2>&1);

    return ($? == 0, $text);
}


sub new_nginx
{
    my (%opt) = @_;

    my $self = bless { opt => \%opt, ports => {}, seen => {} },
        'LLMBudget::Nginx';

    $self->{binary} = find_nginx() // die "no nginx found\n";
    $self->{standin} = $opt{standin} // $STANDIN;
    $self->{module} = $opt{module} // find_module() // die
        "no module found: build it, or set TEST_NGINX_MODULE\n";
    $self->{dir} = new_dir();
    $self->{port} = $self->port_of('PORT');

    for my $name (keys %{$opt{files} || {}}) {
        write_file("$self->{dir}/$name", $opt{files}{$name});
    }

    $self->write_conf($opt{conf} // llm_conf());

    return $self;
}


sub new_dir
{
    my $name = File::Basename::basename($0);

    $name =~ s/[^\w.-]/_/g;
    $name =~ s/\.t$//;

    my $dir = "$BUILD/servroot/$name-$$-" . (@DIRS + 1);

    File::Path::make_path("$dir/logs", "$dir/tmp");
    push @DIRS, $dir;

    return $dir;
}


# A complete configuration with one metered location.  Options (text):
#   main, http, server, location, locations: directives to add there
#   limit     => arguments of llm_budget_limit, or a list of them; '' none
#   key       => arguments of llm_budget_key; '' none
#   zone      => arguments of llm_budget_zone
#   prices    => path; '' none
#   pass      => argument of proxy_pass
#   proxy     => more proxy directives of the location
#   path      => the metered location
#   upstream  => more directives of the upstream block
#   upstreams => the list of its "server" arguments
#   redis     => arguments of llm_budget_redis
#   store     => "zone" or "redis", of the location and of the API; "redis"
#                without redis => the test's own server is started
#   journal   => arguments of llm_budget_journal; '' none
#   outage, tag => arguments of llm_budget_outage, llm_budget_redis_tag, of
#                the server
# LLMB_STORE=redis or =cluster: where neither redis nor store is given, as if
# redis named the test's own server or cluster.

sub llm_conf
{
    my (%opt) = @_;

    my $limit = $opt{limit} // 'all key=all usd=1000 per=lifetime';
    my @limits = grep { length } ref $limit ? @$limit : ($limit);
    my $limits = join('', map { "            llm_budget_limit $_;\n" }
                          @limits);
    my $key = $opt{key} // '$http_authorization';
    my $prices = $opt{prices} // '%%PRICES%%';
    my $zone = $opt{zone} // 'llm 8m';
    my $pass = $opt{pass} // 'http://standin';
    my $path = $opt{path} // '/v1/';
    my $servers = join('', map { "        server $_;\n" }
        @{$opt{upstreams} // ['127.0.0.1:%%STANDIN%% max_fails=0']});

    my %text = map { $_ => defined $opt{$_} ? "$opt{$_}\n" : '' }
        qw(main http server location locations proxy upstream);
    my ($redis, $server, $store) = store_conf(%opt);

    $key = "            llm_budget_key $key;\n" if length $key;
    $prices = "    llm_budget_prices $prices;\n" if length $prices;

    return <<"END";
$text{main}
http {
    llm_budget_zone $zone;
$redis$prices
    log_format llm_usage escape=none '\$llm_budget_usage';

    upstream standin {
$servers        keepalive 32;
$text{upstream}    }

$text{http}
    server {
        listen 127.0.0.1:%%PORT%%;

        access_log %%DIR%%/logs/access.log;
        access_log %%DIR%%/usage.log llm_usage if=\$llm_budget_usage;

$server$text{server}
        location $path {
            llm_budget on;
$store$key$limits$text{location}
            proxy_pass $pass;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host \$host;
$text{proxy}        }

        location /llm/api/ {
            llm_budget_api;
$store        }
$text{locations}    }
}
END
}


# The store's directives, for http, server and location.

sub store_conf
{
    my (%opt) = @_;

    my ($redis, $store) = @opt{qw(redis store)};

    if (!defined $redis
        && ($store // (store_kind() eq 'zone' ? 'zone' : 'redis')) eq 'redis')
    {
        require LLMBudgetRedis;
        $redis = LLMBudgetRedis::default_args();
    }

    my $journal = $opt{journal} // (defined $redis ? '%%DIR%%/journal' : '');

    my $http = (defined $redis ? "    llm_budget_redis $redis;\n" : '')
        . (length $journal ? "    llm_budget_journal $journal;\n" : '');
    my $server = join('', map {
        defined $opt{$_->[0]} ? "        $_->[1] $opt{$_->[0]};\n" : ''
    } [outage => 'llm_budget_outage'], [tag => 'llm_budget_redis_tag']);

    return ($http, $server, defined $store
            ? "            llm_budget_store $store;\n" : '');
}


# ------------------------------------------------------------------ client

# A request's bytes.  headers: hash or list of pairs; body: text or, as JSON,
# a Perl value; standin: text of the X-Stand-In header; chunked => N: sent in
# chunks of N bytes.

sub request_text
{
    my ($method, $path, %opt) = @_;

    my $version = $opt{version} // '1.1';
    my @given = ref $opt{headers} eq 'HASH'
        ? map { [$_, $opt{headers}{$_}] } sort keys %{$opt{headers}}
        : @{$opt{headers} // []};
    my %has = map { lc($_->[0]) => 1 } @given;
    my $body = $opt{body};

    $body = $JSON->utf8->encode($body) if ref $body;

    unshift @given, ['Host', 'localhost'] unless $has{host};
    push @given, ['X-Stand-In', $opt{standin}] if defined $opt{standin};
    push @given, ['Connection', 'close']
        unless $has{connection} || $opt{keep};

    if (defined $body) {
        push @given, ['Content-Type', 'application/json']
            unless $has{'content-type'};

        if ($opt{chunked}) {
            my $text = '';

            for (my $i = 0; $i < length($body); $i += $opt{chunked}) {
                my $part = substr($body, $i, $opt{chunked});
                $text .= sprintf("%x\r\n%s\r\n", length($part), $part);
            }

            $body = $text . "0\r\n\r\n";
            push @given, ['Transfer-Encoding', 'chunked'];

        } elsif (!$has{'content-length'}) {
            push @given, ['Content-Length', length($body)];
        }
    }

    return "$method $path HTTP/$version\r\n"
        . join('', map { defined $_->[1] ? "$_->[0]: $_->[1]\r\n" : '' }
               @given)
        . "\r\n" . ($body // '');
}


# Sends a request and reads its answer; options of request_text() and
# send_raw().

sub request
{
    my ($method, $path, %opt) = @_;

    $MADE++ if $path !~ m{^/llm/} && !$opt{uncounted};

    return send_raw(request_text($method, $path, %opt), %opt,
                    method => $method);
}


sub get
{
    my ($path, %opt) = @_;

    return request('GET', $path, %opt);
}


sub post_json
{
    my ($path, $body, %opt) = @_;

    return request('POST', $path, %opt, body => $body);
}


# Sends bytes, or a list of pieces, and reads one answer.  Options:
#   port, sock (one kept before), keep => 1 (keep it: the answer's {sock}),
#   gap => ms between pieces, timeout => seconds, method => 'HEAD',
#   no_read => 1: send only, then close (or keep),
#   abort_at => N: leave after N body bytes (0: after the header),
#   abort_on => regex: leave once the body matches,
#   abort_after => ms: leave that long after sending, whatever came,
#   rst => 1: leave by a reset, stall => ms: pause before reading,
#   rcvbuf => bytes
# The answer: status, reason, headers (lower case; repeated ones joined by
# ", "), header_list, body, raw, trailers, aborted, timed_out, truncated,
# and t_header, t_body, t_end: seconds since the request was sent.

sub send_raw
{
    my ($data, %opt) = @_;

    my $sock = $opt{sock} // connect_to($opt{port} // $NGINX->{port},
                                        $opt{rcvbuf});
    my @pieces = ref $data ? @$data : ($data);
    my $answer = { status => 0, reason => '', headers => {}, body => '',
                   header_list => [], raw => '', trailers => {},
                   sock => $sock, rest => ${*$sock}{llmb_rest} // '' };

    for my $i (0 .. $#pieces) {
        sleep_ms($opt{gap}) if $i && $opt{gap};
        last unless write_all($sock, $pieces[$i]);
    }

    $answer->{t0} = Time::HiRes::time();
    $answer->{deadline} = $answer->{t0} + ($opt{timeout} // $TIMEOUT);

    if (defined $opt{abort_after}) {
        $answer->{leave} = $answer->{t0} + $opt{abort_after} / 1000;
    }

    sleep_ms($opt{stall}) if $opt{stall};

    unless ($opt{no_read}) {
        read_head($answer) && read_body($answer, %opt);
        $answer->{t_end} = Time::HiRes::time() - $answer->{t0};
    }

    finish($answer, %opt);

    return $answer;
}


sub connect_to
{
    my ($port, $rcvbuf) = @_;

    my $sock = IO::Socket::INET->new(Proto => 'tcp')
        or die "socket: $!\n";

    setsockopt($sock, SOL_SOCKET, SO_RCVBUF, pack('i', $rcvbuf))
        if $rcvbuf;

    connect($sock, Socket::sockaddr_in($port,
                                       Socket::inet_aton('127.0.0.1')))
        or die "cannot connect to port $port: $!\n";

    return $sock;
}


sub write_all
{
    my ($sock, $data) = @_;

    my $at = 0;

    while ($at < length($data)) {
        my $n = syswrite($sock, $data, length($data) - $at, $at);

        return 0 unless defined $n;

        $at += $n;
    }

    return 1;
}


sub finish
{
    my ($answer, %opt) = @_;

    my $sock = $answer->{sock};

    delete @$answer{qw(deadline leave)};
    ${*$sock}{llmb_rest} = delete $answer->{rest};

    return if $opt{keep} && !$answer->{aborted};

    setsockopt($sock, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0)) if $opt{rst};

    delete $answer->{sock};
    close($sock);
}


# More bytes into {rest}; false at the end, at the time limit, or when it is
# time to leave.

sub more
{
    my ($answer) = @_;

    my $end = $answer->{leave} // $answer->{deadline};
    my $left = $end - Time::HiRes::time();

    $left = 0 if $left < 0;

    unless (IO::Select->new($answer->{sock})->can_read($left)) {
        $answer->{defined $answer->{leave} ? 'aborted' : 'timed_out'} = 1;
        return 0;
    }

    my $n = sysread($answer->{sock}, my $data, 65536);

    unless ($n) {
        $answer->{closed} = 1;
        return 0;
    }

    $answer->{raw} .= $data;
    $answer->{rest} .= $data;

    return 1;
}


sub read_head
{
    my ($answer) = @_;

    while (1) {
        while ($answer->{rest} !~ /\r\n\r\n/) {
            more($answer) or return 0;
        }

        $answer->{rest} =~ s/^(.*?)\r\n\r\n//s;
        my ($first, @lines) = split(/\r\n/, $1);

        ($answer->{status}, $answer->{reason}) =
            $first =~ m{^HTTP/1\.[01] (\d\d\d) ?(.*)$}
            or do { $answer->{truncated} = 1; return 0; };

        next if $answer->{status} =~ /^1/;

        for my $line (@lines) {
            my ($name, $value) = $line =~ /^([^:]+):\s*(.*?)\s*$/ or next;
            my $at = \$answer->{headers}{lc $name};

            push @{$answer->{header_list}}, [$name, $value];
            $$at = defined $$at ? "$$at, $value" : $value;
        }

        $answer->{t_header} = Time::HiRes::time() - $answer->{t0};

        return 1;
    }
}


sub read_body
{
    my ($answer, %opt) = @_;

    my $headers = $answer->{headers};
    my $state = { left => undef, chunked => 0 };

    if (($opt{method} // '') eq 'HEAD' || $answer->{status} =~ /^(204|304)$/)
    {
        return;
    }

    if (($headers->{'transfer-encoding'} // '') =~ /chunked/i) {
        $state->{chunked} = 1;

    } elsif (defined $headers->{'content-length'}) {
        $state->{left} = $headers->{'content-length'};
    }

    while (1) {
        my $before = length($answer->{body});
        my $done = $state->{chunked} ? take_chunks($answer, $state)
                                     : take_plain($answer, $state);

        if (length($answer->{body}) > $before
            && !defined $answer->{t_body})
        {
            $answer->{t_body} = Time::HiRes::time() - $answer->{t0};
        }

        if ((defined $opt{abort_at}
             && length($answer->{body}) >= $opt{abort_at})
            || ($opt{abort_on} && $answer->{body} =~ $opt{abort_on}))
        {
            $answer->{aborted} = 1;
            return;
        }

        return if $done;

        unless (more($answer)) {
            $answer->{truncated} = 1
                if $answer->{closed}
                && ($state->{chunked} || defined $state->{left});
            return;
        }
    }
}


sub take_plain
{
    my ($answer, $state) = @_;

    unless (defined $state->{left}) {
        $answer->{body} .= $answer->{rest};
        $answer->{rest} = '';
        return 0;
    }

    my $part = substr($answer->{rest}, 0, $state->{left}, '');

    $answer->{body} .= $part;
    $state->{left} -= length($part);

    return $state->{left} == 0;
}


sub take_chunks
{
    my ($answer, $state) = @_;

    while (1) {
        if (defined $state->{left}) {
            my $part = substr($answer->{rest}, 0, $state->{left}, '');

            $answer->{body} .= $part;
            $state->{left} -= length($part);

            return 0 if $state->{left} || length($answer->{rest}) < 2;

            substr($answer->{rest}, 0, 2, '');
            $state->{left} = undef;
        }

        if ($state->{trailers}) {
            return 0 unless $answer->{rest} =~ s/^(.*?)\r\n//s;
            return 1 if $1 eq '';

            $answer->{trailers}{lc $1} = $2 if "$1" =~ /^([^:]+):\s*(.*)$/;
            next;
        }

        return 0 unless $answer->{rest} =~ s/^([0-9a-fA-F]+)[^\r\n]*\r\n//;

        $state->{left} = hex($1);

        unless ($state->{left}) {
            $state->{left} = undef;
            $state->{trailers} = 1;
        }
    }
}


# Runs sub->(i) in n processes that start together; their results in order.
# A result is what Storable can carry; undef: that process died.

sub parallel
{
    my ($n, $sub) = @_;

    my (@results, @reads, @pids);

    pipe(my $gate_read, my $gate_write) or die "pipe: $!\n";
    STDOUT->flush();
    STDERR->flush();

    for my $i (0 .. $n - 1) {
        pipe(my $read, my $write) or die "pipe: $!\n";
        binmode($_) for $read, $write;

        my $pid = fork() // die "fork: $!\n";

        if ($pid == 0) {
            close($gate_write);
            close($read);
            sysread($gate_read, my $go, 1);
            parallel_child($i, $sub, $write);
        }

        close($write);
        push @reads, $read;
        push @pids, $pid;
    }

    close($gate_read);
    close($gate_write);

    for my $i (0 .. $n - 1) {
        local $/;
        my $text = readline($reads[$i]);
        my $result = length($text // '')
            ? eval { Storable::thaw($text) } : undef;

        waitpid($pids[$i], 0);

        $MADE += $result->{made} if $result;
        diag("process $i: $result->{error}")
            if $result && defined $result->{error};
        push @results, $result ? $result->{value} : undef;
    }

    return @results;
}


sub parallel_child
{
    my ($i, $sub, $write) = @_;

    $MADE = 0;

    my $value = eval { $sub->($i) };
    my $error = $@ ne '' ? "$@" : undef;

    if (ref $value eq 'HASH') {
        delete $value->{sock};
    }

    print $write Storable::freeze({ value => $value, made => $MADE,
                                    error => $error });
    close($write);
    POSIX::_exit(0);
}


# ------------------------------------------------------- ledger, usage log

sub api
{
    my ($path, %opt) = @_;

    my $answer = get("/llm/api/$path", timeout => 5, %opt);

    return undef if $answer->{status} != 200;
    return eval { $JSON->utf8->decode($answer->{body}) };
}


sub ledger
{
    return api('ledger', @_);
}


# The ledger once no hold is pending.  The store in the zone has to be there
# when there is a usage line; Redis is told of the end of a hold at that time.

sub ledger_settled
{
    my $ledger;

    wait_for(sub {
        $ledger = ledger(@_) // {};
        return store_kind() eq 'zone'
            || ($ledger->{stat}{pending} // 1) == 0;
    });

    return $ledger;
}


# What the accounts of a limit have spent, all keys and periods.

sub spent
{
    my ($ledger, $limit, $unit) = @_;

    my $sum = 0;

    $limit //= 'all';
    $unit //= 'usd';

    for my $account (@{$ledger->{accounts} // []}) {
        $sum += $account->{spent} if $account->{budget} eq $limit
            && ($account->{unit} // 'usd') eq $unit;
    }

    return $sum;
}


# The usage log, one hash per line; an unfinished last line is left out.

sub usage_lines
{
    my ($path) = @_;

    my $text = read_file($path // "$NGINX->{dir}/usage.log") // '';
    my @lines;

    $text =~ s/[^\n]+\z//;

    for my $line (split(/\n/, $text)) {
        my $data = eval { $JSON->utf8->decode($line) };

        die "usage line is not JSON: $line\n" unless ref $data eq 'HASH';
        push @lines, $data;
    }

    return @lines;
}


# The three sums once all is quiet.  Options: limit, lines => N (default: the
# requests made through these helpers), wait => seconds, standin.

sub balances
{
    my (%opt) = @_;

    my $lines = $opt{lines} // $MADE;
    my $standin = $opt{standin} // $NGINX->{standin} // $STANDIN;
    my ($ledger, $stats, @usage);

    # the ledger last: a hold is opened before there is a line of it, and
    # Redis is told of its end when there is

    wait_for(sub {
        @usage = usage_lines();
        $stats = $standin->stats();
        $ledger = ledger() // {};

        return defined $ledger->{stat}{pending}
            && $ledger->{stat}{pending} == 0
            && $stats->{in_flight} == 0 && @usage >= $lines;
    }, $opt{wait} // 5);

    my $sum = 0;
    my $held = 0;

    $sum += $_->{cost_nusd} // 0 for @usage;
    $held += $_->{held} // 0 for @{$ledger->{accounts} // []};

    return { billed => $stats->{billed_nusd}, log => $sum,
             spent => spent($ledger, $opt{limit}), held => $held,
             pending => $ledger->{stat}{pending}, lines => scalar(@usage),
             wanted => $lines, ledger => $ledger, stats => $stats,
             usage => \@usage };
}


# The standing check.

sub balanced
{
    my ($title, %opt) = @_;

    my $got = balances(%opt);

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $pass = subtest($title, sub {
        is($got->{pending}, 0, 'no hold is pending');
        is($got->{held}, 0, 'no account holds anything');
        is($got->{lines}, $got->{wanted}, 'every request has its usage line');
        is($got->{spent}, $got->{billed}, 'the ledger is what was billed');
        is($got->{log}, $got->{billed}, 'the usage log is what was billed');
    });

    unless ($pass) {
        for my $line (@{$got->{usage}}) {
            diag(join(' ', map { "$_=" . ($line->{$_} // '-') }
                qw(verdict endpoint status model cost_nusd usage_source end
                   input_tokens output_tokens)));
        }

        for my $call (@{$got->{stats}{calls}}) {
            diag(join(' ', map { "$_=" . ($call->{$_} // '-') }
                qw(id path status priced_as billed_nusd input output end)));
        }
    }

    return $pass;
}


END {
    if ($$ == $OWNER) {
        my $code = $?;

        for my $object (values %LIVE) {
            $object->discard();
        }

        $code = 1 if $FAILED && $code == 0;

        if ($code == 0 && Test::More->builder->is_passing
            && !$ENV{TEST_NGINX_LEAVE})
        {
            File::Path::remove_tree(@DIRS);
        }

        $? = $code;
    }
}


sub gone
{
    my ($pid, $seconds) = @_;

    return wait_for(sub { waitpid($pid, POSIX::WNOHANG()) != 0 }, $seconds);
}


package LLMBudget::StandIn;

use strict;
use warnings;


sub ask
{
    my ($self, $method, $path) = @_;

    my $answer = LLMBudget::request($method, $path, port => $self->{port},
                                    uncounted => 1);

    return $JSON->utf8->decode($answer->{body});
}


sub stats
{
    return $_[0]->ask('GET', '/_stats');
}


# The last requests it saw, newest last; each has {header}{lower case name}.

sub requests
{
    my ($self) = @_;

    my $list = $self->ask('GET', '/_requests');

    for my $request (@$list) {
        for my $pair (@{$request->{headers}}) {
            my $at = \$request->{header}{lc $pair->[0]};
            $$at = defined $$at ? "$$at, $pair->[1]" : $pair->[1];
        }
    }

    return @$list;
}


sub last_request
{
    return ($_[0]->requests())[-1];
}


sub reset
{
    return $_[0]->ask('POST', '/_reset');
}


sub stop
{
    my ($self) = @_;

    my $pid = delete $self->{pid} // return;

    delete $LIVE{$pid};
    kill('TERM', $pid);

    unless (LLMBudget::gone($pid, 5)) {
        kill('KILL', $pid);
        waitpid($pid, 0);
    }
}


sub discard
{
    $_[0]->stop();
}


package LLMBudget::Nginx;

use strict;
use warnings;

use Test::More;


# The port behind a name: PORT, PORT1, PORT2, ...

sub port_of
{
    my ($self, $name) = @_;

    return $self->{ports}{$name} //= LLMBudget::free_port();
}


sub fill
{
    my ($self, $text) = @_;

    my %values = (DIR => $self->{dir}, MODULE => $self->{module},
                  ROOT => $LLMBudget::ROOT, PRICES => LLMBudget::prices(),
                  STANDIN => $self->{standin} ? $self->{standin}{port} : 9);

    $text =~ s/%%(PORT\d*)%%/$self->port_of($1)/ge;
    $text =~ s/%%(\w+)%%/$values{$1} \/\/ die "unknown placeholder %%$1%%\n"/ge;

    return $text;
}


# Writes nginx.conf; used again before reload() to change it.

sub write_conf
{
    my ($self, $conf) = @_;

    my $opt = $self->{opt};
    my $dir = $self->{dir};
    my $workers = $opt->{workers} // 1;
    my $level = $opt->{log_level} // $ENV{TEST_NGINX_LOG_LEVEL} // 'info';
    my $globals = $ENV{TEST_NGINX_GLOBALS} // '';
    my $http = $ENV{TEST_NGINX_GLOBALS_HTTP} // '';

    my $main = "daemon off;\nworker_processes $workers;\n"
        . "pid $dir/nginx.pid;\nerror_log $dir/error.log $level;\n$globals\n";

    $main .= "user root;\n" if $> == 0;
    $main .= "load_module $self->{module};\n"
        if length $self->{module} && $conf !~ /^\s*load_module\s/m;
    $main .= "$opt->{main}\n" if defined $opt->{main};
    $main .= "events {\n    worker_connections 1024;\n}\n"
        unless $conf =~ /^\s*events\s*\{/m;

    my $temp = join('', map { "    ${_}_temp_path $dir/tmp/$_;\n" }
        qw(client_body proxy fastcgi uwsgi scgi));

    $temp = "    default_type text/plain;\n    access_log off;\n$temp$http\n"
        . "    client_body_timeout 10s;\n    keepalive_requests 100000;\n";

    my @own = grep { $conf =~ /^\s{0,4}$_\s/m }
        qw(default_type client_body_timeout keepalive_requests access_log);

    $temp =~ s/^    $_ .*\n//m for @own;
    $conf =~ s/^(\s*http\s*\{[^\n]*\n)/$1$temp/m;

    LLMBudget::write_file("$dir/nginx.conf", $self->fill("$main$conf"));
}


sub launch
{
    my ($self) = @_;

    my $dir = $self->{dir};
    my $pid = fork() // die "fork: $!\n";

    if ($pid == 0) {
        $ENV{ASAN_OPTIONS} //= 'detect_odr_violation=0:detect_leaks=0';
        open(STDOUT, '>>', "$dir/stderr.log");
        open(STDERR, '>>', "$dir/stderr.log");
        { no warnings; exec($self->{binary}, '-p', "$dir/", '-e',
                            "$dir/error.log", '-c', "$dir/nginx.conf"); }
        POSIX::_exit(127);
    }

    $LIVE{$pid} = $self;
    $self->{pid} = $pid;

    my $up = LLMBudget::wait_for(sub {
        return -1 if waitpid($pid, POSIX::WNOHANG()) != 0;

        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $self->{port}, Proto => 'tcp');
        return defined $sock ? 1 : 0;
    }, 20);

    if ($up < 0) {
        delete $LIVE{delete $self->{pid}};

    } elsif (!$up) {
        $self->discard();

    } else {
        # the master listens before it has workers

        LLMBudget::wait_for(sub {
            return $self->workers() >= ($self->{opt}{workers} // 1);
        }, 20);
    }
}


# Both logs; new => 1: only what came since the last stop().

sub log_text
{
    my ($self, %opt) = @_;

    my $all = '';

    for my $name ('stderr.log', 'error.log') {
        my $text = LLMBudget::read_file("$self->{dir}/$name") // '';

        $all .= $opt{new} ? substr($text, $self->{seen}{$name} // 0) : $text;
        $self->{size}{$name} = length($text);
    }

    return $all;
}


sub log_tail
{
    my ($self) = @_;

    my @lines = split(/\n/, $self->log_text());

    splice(@lines, 0, @lines - 20) if @lines > 20;

    return join("\n", @lines);
}


# The process ids of the workers.

sub workers
{
    my ($self) = @_;

    my $pid = $self->{pid} // return ();
    my $text = LLMBudget::read_file("/proc/$pid/task/$pid/children") // '';

    return split(' ', $text);
}


sub signal
{
    my ($self, $name) = @_;

    return kill($name, $self->{pid});
}


# Reloads, with a new configuration if given, and waits for new workers.

sub reload
{
    my ($self, $conf, %opt) = @_;

    my %old = map { $_ => 1 } $self->workers();
    my $count = keys %old;

    $self->write_conf($conf) if defined $conf;
    $self->signal('HUP');

    return LLMBudget::wait_for(sub {
        my @new = grep { !$old{$_} } $self->workers();
        return @new >= ($opt{workers} // $self->{opt}{workers} // 1);
    }, $opt{wait} // 10);
}


# Lines that no log may have; allow: a regex of those expected.

sub complaints
{
    my ($self, %opt) = @_;

    my @lines = grep {
        /\[(?:alert|emerg)\]|Sanitizer|runtime error:/
    } split(/\n/, $self->log_text(new => 1));

    $self->{seen} = { %{$self->{size}} };

    return grep { !$opt{allow} || $_ !~ $opt{allow} } @lines;
}


# Stops gracefully and makes one test of how it went.  Options: allow =>
# regex, wait => seconds, signal => 'QUIT' or 'TERM', title.

sub stop
{
    my ($self, %opt) = @_;

    my $pid = $self->{pid} // return 1;
    my $wait = $opt{wait} // 15;
    my @problems;

    kill($opt{signal} // 'QUIT', $pid);

    if (LLMBudget::gone($pid, $wait)) {
        push @problems, "exit status $?" if $? != 0;
        delete $LIVE{delete $self->{pid}};

    } else {
        push @problems, "still there after $wait s: workers "
            . join(' ', $self->workers()), $self->complaints(%opt);
        $self->discard();
    }

    push @problems, $self->complaints(%opt);

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $title = $opt{title} // 'nginx stops with nothing to report';
    my $pass = ok(!@problems, $title);

    if (!$pass) {
        $#problems = 9 if @problems > 10;
        diag($_) for @problems, "see $self->{dir}";
    }

    return $pass;
}


# Starts again in the same folder, with the same ports and logs.

sub start_again
{
    my ($self) = @_;

    $self->launch();

    return defined $self->{pid};
}


# Ends it without asking, workers too.

sub discard
{
    my ($self) = @_;

    my $pid = delete $self->{pid} // return;
    my @workers = do {
        local $self->{pid} = $pid;
        $self->workers();
    };

    delete $LIVE{$pid};
    kill('TERM', $pid);

    unless (LLMBudget::gone($pid, 3)) {
        kill('KILL', $pid, @workers);
        waitpid($pid, 0);
    }

    for my $line ($self->complaints()) {
        print STDERR "# not stopped, and its log says: $line\n";
        $FAILED = 1;
    }
}


# Kills the master and all workers at once, as a power cut would.

sub kill_all
{
    my ($self) = @_;

    my $pid = $self->{pid} // return;
    my @workers = $self->workers();

    delete $LIVE{delete $self->{pid}};
    kill('KILL', $pid, @workers);
    waitpid($pid, 0);

    return LLMBudget::wait_for(sub { !kill(0, @workers) }, 5);
}


1;
