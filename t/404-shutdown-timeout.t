#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# A stream that worker_shutdown_timeout cuts is charged for what was sent, in
# the ledger the next workers have (T40).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Select;
use Test::More;

use LLMBudget;


need_module();

my $standin = start_standin();

my $nginx = start_nginx(workers => 1, main => 'worker_shutdown_timeout 500ms;',
                        conf => llm_conf());

my $sock = LLMBudget::connect_to($nginx->{port});
my $request = request_text('POST', '/v1/chat/completions',
    headers => { Authorization => 'Bearer k1' },
    standin => 'out=400; wait_after=5; count=body',
    body => { model => 'm-std', max_tokens => 500, stream => \1,
              stream_options => { include_usage => \1 },
              messages => [{ role => 'user', content => 'abcd' }] });

LLMBudget::write_all($sock, $request) or die "cannot send: $!\n";
$LLMBudget::MADE++;

# all that was sent has passed, none is under way when the time is up

my $answer = '';

received(sub { return $answer =~ /(?:abc .*){5}/s; });

like($answer, qr{^HTTP/1\.1 200 .*(?:abc .*){5}}s, 'a stream runs');
is(ledger()->{stat}{pending}, 1, 'with a hold');

ok($nginx->reload(), 'nginx reloads');
ok(received(sub { return 0; }), 'and cuts it');
unlike($answer, qr/\[DONE\]/, 'before its end');
close($sock);

balanced('what was sent is charged');

my ($line) = usage_lines();

is($line->{usage_source}, 'estimated', 'as an estimate');
is($line->{output_tokens}, 5, 'with the output that passed');
is(spent(ledger()), $line->{cost_nusd}, 'in the ledger of the new worker');

$nginx->stop();
done_testing();


# Reads on until the sub is true or the connection ends; 0: in vain.

sub received
{
    my ($enough) = @_;

    my $select = IO::Select->new($sock);

    while (!$enough->()) {
        return 0 unless $select->can_read($LLMBudget::TIMEOUT);
        return 1 unless sysread($sock, $answer, 65536, length($answer));
    }

    return 1;
}
