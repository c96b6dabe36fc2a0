#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# No line that this module writes, at whatever level, and no access or usage
# log has a client's key, the provider's credential, or what was said: however
# a call ends (T50).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use LLMBudget;
use Metered;


need_module();

# what must not be seen: keys, a credential, a prompt, a name in a body, and
# the stand-in's words

my %secret = (
    'the client\'s key' => 'sk-client-4711',
    'the provider\'s credential' => 'sk-provider-0815',
    'the prompt' => 'Rumpelstiltskin',
    'a tool\'s text' => 'Hazelnut',
    'the completion' => 'abc abc',
);

my $standin = start_standin();

my $nginx = start_nginx(workers => 2, log_level => 'debug', conf => llm_conf(
    key => '',
    limit => ['all key=all usd=1000 per=lifetime'],
    http => <<'END',
    llm_budget_provider p {
        pass     http://standin;
        api_key  sk-provider-0815;
    }

    log_format everything escape=none '$request $status $http_authorization '
        '$llm_budget_key_id $llm_budget_model $llm_budget_user '
        '$llm_budget_code $llm_budget_end $args $llm_budget_pass';
END
    location => <<'END',
            llm_budget_pass p;
            proxy_read_timeout 500ms;
            client_max_body_size 100k;
END
    pass => '$llm_budget_pass',
    locations => join('',
        location('cheap', 'llm_budget_degrade at=0% m-std=m-mini;'),
        location('poor', 'llm_budget_limit poor usd=0;'),
        location('loop', 'llm_budget_limit loop key=$llm_budget_body_sha256'
                         . ' requests=1;'),
        location('word', 'llm_budget_limit word usd=$arg_amount;'),
        location('short', 'llm_budget_hold_timeout 1s;'),
        location('gone', '', 'http://127.0.0.1:%%PORT9%%'))));

my $chat = '/v1/chat/completions';
my @carriers = ([Authorization => 'Bearer sk-client-4711'],
                ['x-api-key' => 'sk-client-4711'],
                ['api-key' => 'sk-client-4711'],
                ['x-goog-api-key' => 'sk-client-4711'], undef);
my %body = (model => 'm-std', max_tokens => 40, messages => [
    { role => 'user', content => 'Rumpelstiltskin is my name' }],
    tools => [{ type => 'function', function => { name => 'f',
                description => 'Hazelnut' } }]);
my $turn = 0;
my $calls = 0;


# answered, moved, refused

for my $stream (0, 1) {
    for my $carrier (0 .. $#carriers) {
        $turn = $carrier;
        is(ask($chat, { stream => $stream })->{status}, 200, 'allowed');
    }

    is(ask("/cheap$chat", { stream => $stream })->{headers}
       {'x-llm-budget-verdict'}, 'degrade', 'degraded');
    is(ask("/poor$chat", { stream => $stream })->{status}, 429, 'denied');
    is(ask("/gone$chat", { stream => $stream })->{status}, 502, 'not sent');
}

ask("/loop$chat", {}) for 1 .. 2;
is(ask("/word$chat", {})->{status}, 503, 'a limit that is no amount');
is(ask($chat, { model => 'none' })->{status}, 400, 'no price');
is(ask('/v1/none', {})->{status}, 404, 'no endpoint');

# bodies that are broken, right after what must not be seen

for my $text ('{"Rumpelstiltskin', '{"model":"m-std","Rumpelstiltskin":}',
              'Rumpelstiltskin', '["Rumpelstiltskin"]',
              '{"model":"m-std","messages":["Rumpelstiltskin\\ud800"]}',
              '{"model":"m-std","messages":"Rumpelstiltskin"',
              '{"model":"m-std","max_tokens":"Rumpelstiltskin"}',
              '{"model":"m-std","n":-1,"messages":["Rumpelstiltskin"]}',
              '{"model":"m-std","messages":["Rumpelstiltskin"],'
              . '"metadata":"Hazelnut"}',
              "{\"model\":\"m-std\",\"messages\":[\"Rumpelstiltskin\xff\"]}")
{
    is(ask($chat, $text)->{status}, 400, 'a broken body');
}

is(ask($chat, '{"x":"' . 'Rumpelstiltskin' x 10_000 . '"}')->{status}, 413,
   'a large body');

# providers that fail, with their words

for my $how ('status=500', 'status=401', 'status=429', 'die=before', 'hang=1',
             'cut=300', 'error_event=3', 'usage=bad', 'usage=none',
             'encoding=br')
{
    ask($chat, { stream => $_ }, standin => "out=20; $how") for 0, 1;
}

# clients that leave

for my $stream (0, 1) {
    ask($chat, { stream => $stream }, standin => 'out=30; wait_after=5',
        abort_after => 100, rst => $stream);
}

ask($chat, { stream => 1 }, standin => 'out=30; wait_after=5',
    abort_on => qr/abc abc|abc /);

# and one that leaves in the midst of its body

send_raw("POST $chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
         . "Content-Type: application/json\r\n"
         . "Authorization: Bearer sk-client-4711\r\n\r\n"
         . '{"model":"m-std","messages":["Rumpelstiltskin', no_read => 1);
$LLMBudget::MADE++;
$calls++;

agree('the ledger is the sum of the usage log');
wait_for(sub { usage_lines() >= $calls });
cmp_ok(scalar(usage_lines()), '>=', $calls, 'each call has its usage line');

$nginx->stop();

my $log = $nginx->log_text();
my @ours = grep { /llm_budget/ } split(/\n/, $log);

cmp_ok(scalar(grep { /llm_budget: / } @ours), '>', 10,
       'the error log has lines of ours');

SKIP: {
    my $binary = find_nginx();

    skip('nginx has no debug log', 2) if qx($binary -V 2>&1) !~ /with-debug/;
    like($log, qr/\[debug\]/, 'its level is debug');
    like($log, qr/sk-client-4711/,
         'and a key would be seen: nginx\'s own lines have all headers');
}

for my $what (sort keys %secret) {
    my @seen = grep { index($_, $secret{$what}) >= 0 } @ours;

    is(scalar(@seen), 0, "T50: no line of ours has $what")
        or diag(join("\n", @seen[0 .. ($#seen < 3 ? $#seen : 3)]));

    for my $file ('usage.log', 'logs/access.log', 'logs/every.log') {
        my $text = read_file("$nginx->{dir}/$file") // '';

        # what the operator asks for by name is the client's header

        $text =~ s/ Bearer sk-client-4711 / /g if $file =~ /every/;
        cmp_ok(length($text), '>', 1000, "there is $file");
        unlike($text, qr/\Q$secret{$what}\E/, "T50: $file has not $what");
    }
}

done_testing();


sub location
{
    my ($name, $text, $pass) = @_;

    $pass //= '$llm_budget_pass';

    my $provider = $pass =~ /^\$/ ? 'llm_budget_pass p;' : '';

    return <<"END";
        location /$name/ {
            llm_budget on;
            llm_budget_limit all key=all usd=1000 per=lifetime;
            access_log %%DIR%%/logs/access.log;
            access_log %%DIR%%/logs/every.log everything;
            access_log %%DIR%%/usage.log llm_usage if=\$llm_budget_usage;
            $text
            $provider
            proxy_pass $pass;
        }
END
}


# One call, with its key in one place or another.

sub ask
{
    my ($path, $more, %opt) = @_;

    my $carrier = $carriers[$turn++ % @carriers];

    $path .= '?a=1&key=sk-client-4711' if !$carrier;
    $path .= ($path =~ /\?/ ? '&' : '?') . 'amount=word';
    $calls++;

    return post_json($path, ref $more ? { %body, %$more, stream =>
                     $more->{stream} ? \1 : \0 } : $more,
                     headers => [$carrier ? $carrier : ()],
                     standin => 'out=20', %opt);
}
