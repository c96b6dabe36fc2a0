package LLMBudgetLoad;

# Copyright (C) the ngx_http_llm_budget_module authors
#
# Small metered calls by several clients at once, for as long as the test does
# something to nginx or to Redis, and the books after that.  See t/lib/README.

use strict;
use warnings;

use Digest::SHA ();
use Exporter 'import';
use IO::Socket::INET ();
use JSON::PP ();
use POSIX ();
use Storable ();
use Test::More;
use Time::HiRes ();

use LLMBudget;


our @EXPORT = qw(
    books fresh_books idle journal_left load_conf one_call script_match soak
    start_load
);

my $LOADS = 0;


# Seconds of a load: LLMB_SOAK, or so many.

sub soak
{
    my ($seconds) = @_;

    return $ENV{LLMB_SOAK} || $seconds;
}


# What a fault's match= has to be for the commands of a script: its digest, and
# a piece of its text for those that carry all of it.

sub script_match
{
    my ($name) = @_;

    my $header = "$LLMBudget::BUILD/servroot/scripts-$$.h";

    system('sh', root() . '/scripts/embed-lua', $header,
           root() . '/ngx_http_llm_budget_module/redis') == 0
        or die "embed-lua failed\n";

    my $text = read_file($header);

    unlink($header);

    my ($lines) = $text =~ /script_$name\[\] =\n(.*?)\n    ;/s
        or die "no script $name\n";
    my $source = '';

    while ($lines =~ /^ +"(.*)"$/mg) {
        my $line = $1;

        $line =~ s/\\(.)/$1 eq 'n' ? "\n" : $1/ge;
        $source .= $line;
    }

    return (Digest::SHA::sha1_hex($source), "bad('of\\x20$name')");
}


# A configuration with two metered locations, /v1/ that refuses calls in an
# outage and /allow/ that lets them pass; /gone/, as /v1/, whose provider is not
# there; and /free/ that is not metered.
# Options: redis, as of llm_conf(); more => text of both locations; http;
# journal; locations.

sub load_conf
{
    my (%opt) = @_;

    my @limits = ('all key=all usd=1000 per=lifetime',
                  'own key=$http_x_key usd=$http_x_limit requests=1000000 '
                  . 'tokens=100000000 concurrency=100 per=lifetime');
    my $limits = join('', map { "            llm_budget_limit $_;\n" } @limits);
    my $more = ($opt{more} // '')
        . "            llm_budget_hold_timeout 60s;\n"
            x (($opt{more} // '') !~ /hold_timeout/);
    my $proxy = "            proxy_next_upstream off;\n";

    return llm_conf(%opt, outage => 'deny', limit => \@limits,
                    location => $more, proxy => $proxy,
                    locations => <<"END" . ($opt{locations} // ''));
        location /allow/ {
            llm_budget on;
            llm_budget_outage allow;
            llm_budget_key \$http_authorization;
$limits$more
            proxy_pass http://standin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
$proxy        }

        location /gone/ {
            llm_budget on;
            llm_budget_key \$http_authorization;
$limits$more
            proxy_pass http://127.0.0.1:%%PORT9%%;
        }

        location /free/ {
            return 200 "free\\n";
        }
END
}


# One of the calls of a client: its kind goes round.  What became of it:
# {status}, {problem} if it is none that there may be, and {nusd}, {tokens}
# that it cost if it was answered in full.  Options: path => '/v1/'; limit =>
# dollars of the key (10 and more); kinds => of those below; prompt, out =>
# tokens; more => text of the X-Stand-In header; any => 1: it may end in any
# way, as when workers are killed.

my %KINDS = (
    plain => { standin => '' },
    stream => { standin => '; gap=1', stream => 1 },
    slow => { standin => '; delay=15' },
    long => { standin => '; gap=25', stream => 1, out => 20 },
    error => { standin => '; status=500', status => 500 },
    gone => { standin => '', status => 502, path => '/gone/' },
);

sub one_call
{
    my ($key, $i, %opt) = @_;

    my @kinds = @{$opt{kinds} // [qw(plain stream slow plain stream error
                                     plain gone)]};
    my $kind = $KINDS{$kinds[$i % @kinds]};
    my $path = $kind->{path} // $opt{path} // '/v1/';
    my $prompt = $opt{prompt} // 5 + $i % 7;
    my $out = $opt{out} // $kind->{out} // 3 + $i % 5;
    my $more = $kind->{standin} . ($opt{more} // '');
    my $limit = $opt{limit} // 100;
    my %result = (path => $path, kind => $kinds[$i % @kinds]);

    my $answer = eval {
        post_json($path . ($path eq '/v1/' ? '' : 'v1/') . 'chat/completions',
                  { model => 'm-std', max_tokens => 50,
                    messages => [{ role => 'user', content => 'abcd' }],
                    $kind->{stream} ? (stream => JSON::PP::true()) : () },
                  headers => { Authorization => "Bearer $key",
                               'X-Key' => $key, 'X-Limit' => $limit },
                  standin => "prompt=$prompt; out=$out$more",
                  timeout => 20);
    };

    return { %result, status => 0, problem => $opt{any} ? undef : $@ }
        unless $answer;

    my $status = $result{status} = $answer->{status};
    my $code = $answer->{headers}{'x-llm-budget-code'} // '';
    my $left = $answer->{headers}{'x-llm-budget-remaining-usd'};

    if ($status == 200 && !$answer->{truncated} && !$answer->{timed_out}
        && !$kind->{status})
    {
        $result{nusd} = $prompt * 2500 + $out * 10000;
        $result{tokens} = $prompt + $out;

        $result{problem} = 'the answer is not whole'
            if $answer->{body} !~ ($kind->{stream} ? qr/\[DONE\]\n\n\z/
                                                   : qr/"usage"/);

        # an answer to another key's question would show

        $result{problem} = "$left dollars are left of $limit"
            if defined $left && ($left > $limit || $left < $limit - 5);

        $result{problem} = 'room where there was none' if $limit < 0.001;

    } elsif ($status == 503 && $code eq 'store_unavailable') {
        $result{refused} = 1;
        $result{problem} = 'refused although it is to be let in'
            if $path eq '/allow/';

    } elsif ($status == 429 && $limit < 0.001) {
        $result{denied} = 1;

    } elsif ($kind->{status} && $status == $kind->{status}) {

        # an error of the provider is a request; one that was not sent is not

        @result{qw(nusd tokens)} = (0, 0) if $status == 500;

    } else {
        $result{problem} = "$result{kind}: status $status $code"
            . ($answer->{truncated} ? ' truncated' : '');
    }

    delete $result{problem} if $opt{any};

    return \%result;
}


# Clients that make calls until ->stop(), each by call => sub { my ($me, $i) =
# @_; a result of one_call() }, in processes of their own.  n => clients,
# pause => ms between calls, free => 0: do not ask for /free/ in between;
# free => 2: once more if it fails.

sub start_load
{
    my (%opt) = @_;

    my $dir = LLMBudget::new_dir();
    my $self = bless { dir => $dir, n => $opt{n} // 6 }, __PACKAGE__;
    my $parent = $$;

    STDOUT->flush();
    STDERR->flush();

    for my $me (0 .. $self->{n} - 1) {
        my $pid = fork() // die "fork: $!\n";

        if ($pid == 0) {
            $LLMBudget::MADE = 0;

            my $data = eval { client($me, $dir, $parent, %opt) }
                // { problems => ["client $me: $@"] };

            $data->{made} = $LLMBudget::MADE;
            Storable::store($data, "$dir/$me");
            POSIX::_exit(0);
        }

        $self->{pids}[$me] = $pid;
    }

    return $self;
}


sub client
{
    my ($me, $dir, $parent, %opt) = @_;

    my %data = (sum => {}, status => {}, problems => [], free => 0);

    for (my $i = 0; !-e "$dir/stop" && getppid() == $parent; $i++) {
        my $result = $opt{call}->($me, $i);
        my $key = $result->{key} // "k$me";
        my $sum = $data{sum}{$key} //= { n => 0, nusd => 0, tokens => 0 };

        $data{status}{$result->{status}}++;
        $data{$_}++ for grep { $result->{$_} } qw(refused denied);
        push @{$data{problems}}, "$key: $result->{problem}"
            if defined $result->{problem} && @{$data{problems}} < 5;

        if (defined $result->{nusd}) {
            $sum->{n}++;
            $sum->{$_} += $result->{$_} for qw(nusd tokens);
        }

        $data{failed}++ unless free_call($opt{free} // 1);
        sleep_ms($opt{pause} // 5);
    }

    return \%data;
}


sub free_call
{
    my ($tries) = @_;

    return 1 unless $tries;

    for (1 .. $tries) {
        my $answer = eval { get('/free/', uncounted => 1) };

        return 1 if $answer && $answer->{status} == 200
            && $answer->{body} eq "free\n";
    }

    return 0;
}


# Ends the clients after their present calls: {sum}{key}{n, nusd, tokens} of
# what was served, {status}{code}, {refused} in an outage, {denied} for want of
# room, {problems}, {failed} of /free/.

sub stop
{
    my ($self) = @_;

    write_file("$self->{dir}/stop", '');

    my %all = (sum => {}, status => {}, problems => [], made => 0,
               refused => 0, denied => 0, failed => 0);

    for my $me (0 .. $self->{n} - 1) {
        waitpid($self->{pids}[$me], 0);

        my $data = eval { Storable::retrieve("$self->{dir}/$me") }
            // { problems => ["client $me died"] };

        $all{$_} += $data->{$_} // 0 for qw(made refused denied failed);
        $all{status}{$_} += $data->{status}{$_} for keys %{$data->{status}};
        push @{$all{problems}}, @{$data->{problems}};

        for my $key (keys %{$data->{sum} // {}}) {
            $all{sum}{$key}{$_} += $data->{sum}{$key}{$_}
                for qw(n nusd tokens);
        }
    }

    $LLMBudget::MADE += $all{made};

    return \%all;
}


# ------------------------------------------------------------------ the books

# Forgets all calls so far: new books for the next load.

sub fresh_books
{
    my ($standin, $redis, @nginx) = @_;

    $redis->cli('FLUSHALL') if $redis;
    $standin->reset();
    truncate("$_->{dir}/usage.log", 0) for @nginx;
    $LLMBudget::MADE = 0;
}


# Lines that no worker has told so far, and files of damaged ones.

sub journal_left
{
    my ($nginx) = @_;

    return grep { -s $_ } glob("$nginx->{dir}/journal/*");
}


# Waits until nothing is pending, nothing in the journal and every call has its
# line: the ledger, the lines' sums, what was billed.

sub idle
{
    my (%opt) = @_;

    my @nginx = @{$opt{nginx} // [$LLMBudget::NGINX]};
    my $port = $LLMBudget::STANDIN->{port};
    my %got;

    wait_for(sub {
        my $text = get('/_stats', port => $port, uncounted => 1)->{body};

        $text =~ s/"calls":\[.*\]//s;
        ($got{billed}) = $text =~ /"billed_nusd":(\d+)/;
        ($got{flying}) = $text =~ /"in_flight":(\d+)/;
        $got{left} = [map { journal_left($_) } @nginx];
        @got{qw(lines log ids)} = lines(@nginx);
        $got{ledger} = ledger() // {};

        return !$got{flying} && !@{$got{left}}
            && $got{lines} >= ($opt{lines} // $LLMBudget::MADE)
            && ($got{ledger}{stat}{pending} // 1) == 0;
    }, $opt{wait} // 15);

    return \%got;
}


# Their number, the sum of their costs and the cost by id, read fast: there may
# be many.

sub lines
{
    my (@nginx) = @_;

    my ($n, $sum, %ids) = (0, 0);

    for my $nginx (@nginx) {
        my $text = read_file("$nginx->{dir}/usage.log") // '';

        while ($text =~ /^\{"id":"(\w+)"(.*)\n/mg) {
            my ($id, $rest) = ($1, $2);
            my $cost = $rest =~ /"cost_nusd":(\d+)/ ? $1 : 0;

            $n++;
            $sum += $cost;
            $ids{$id} = exists $ids{$id} ? "$id twice" : $cost;
        }
    }

    return ($n, $sum, \%ids);
}


# balanced(), of more: a result of ->stop(), or several of them, and what the
# ledger, the usage log, the stand-in, the clients and the ledger's counters
# have to say of it.  Options: nginx => [those that share it].

sub books
{
    my ($title, $results, %opt) = @_;

    my @results = ref $results eq 'ARRAY' ? @$results : ($results);
    my $got = idle(%opt);
    my $stat = $got->{ledger}{stat} // {};
    my %sum;

    for my $result (@results) {
        for my $key (keys %{$result->{sum}}) {
            $sum{$key}{$_} += $result->{sum}{$key}{$_}
                for qw(n nusd tokens);
        }
    }

    my %all = map { my $what = $_; ($what => sum(map { $_->{$what} }
                                                 values %sum)) }
              qw(n nusd tokens);

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $pass = subtest($title, sub {
        is(join("\n", map { @{$_->{problems}} } @results), '',
           'no call went wrong');
        is(sum(map { $_->{failed} } @results), 0,
           'what is not metered was always served');
        cmp_ok($all{n}, '>', 0, 'calls were served');
        is($stat->{pending}, 0, 'no hold is pending');
        is("@{$got->{left}}", '', 'nothing is left in the journal');
        is($got->{lines}, $opt{lines} // $LLMBudget::MADE,
           'every request has its usage line');
        is(join(' ', grep { / / } values %{$got->{ids}}), '',
           '... one of its own');
        is($got->{billed}, $all{nusd}, 'what was billed is what was served');
        is($got->{log}, $all{nusd}, '... and what the usage log says');
        is(spent($got->{ledger}), $all{nusd}, '... and the ledger');
        is($stat->{posted}, $all{n}, 'each was posted once');
        is($stat->{opened}, ($stat->{posted} // 0) + ($stat->{voided} // 0),
           '... and each other hold was voided once');
        is($stat->{expired}, 0, '... none expired');

        for my $key (sort keys %sum) {
            my %own = map { $_->{unit} => $_ } grep {
                $_->{budget} eq 'own' && $_->{key} eq $key
            } @{$got->{ledger}{accounts}};

            is(join(' ', map { $own{$_}{spent} // 0 }
                         qw(usd requests tokens)),
               "$sum{$key}{nusd} $sum{$key}{n} $sum{$key}{tokens}",
               "$key has what it spent");
        }

        is(sum(map { $_->{held} } @{$got->{ledger}{accounts}}), 0,
           'no account holds anything');
    });

    unless ($pass) {
        diag(JSON::PP->new->canonical->encode(
            { %$stat, results => [map { { %$_, sum => undef } } @results] }));
    }

    return $pass;
}


sub sum
{
    my $sum = 0;

    $sum += $_ // 0 for @_;

    return $sum;
}


1;
