#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# A reload may bring the module in, or find another file of it: the ledger
# stays (T40).


use strict;
use warnings;

use File::Copy qw(copy);
use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use LLMBudget;


need_module();

plan(skip_all => 'the module is built in') unless length find_module();

my $standin = start_standin();

my $chat = { model => 'm-std', max_tokens => 100,
             messages => [{ role => 'user', content => 'abcd' }] };

my $plain = <<'END';
http {
    server {
        listen 127.0.0.1:%%PORT%%;

        location / {
            return 200 "plain\n";
        }
    }
}
END

my $nginx = start_nginx(workers => 1, module => '', conf => $plain);
my $copy = "$nginx->{dir}/copy.so";

copy(find_module(), $copy) or die "cannot copy: $!\n";

is(get('/', uncounted => 1)->{body}, "plain\n", 'nginx runs without it');

my $conf = "load_module $copy;\nevents {\n}\n" . llm_conf(zone => 'llm 1m');

ok($nginx->reload($conf), 'a reload loads it, prices and all')
    or diag($nginx->log_tail());
ok(wait_for(sub { $nginx->workers() == 1 }), 'and only new workers stay');
is(call()->{status}, 200, 'which serve') or die "cannot go on\n";

balanced('and charge');

my $spent = spent(ledger());

# another file of the same name, as a package upgrade leaves it: the dynamic
# linker knows it by its name, and the old one goes on

copy(find_module(), "$copy.new") or die "cannot copy: $!\n";
rename("$copy.new", $copy) or die "cannot rename: $!\n";

ok($nginx->reload(), 'a reload with another file of that name is served');
ok(wait_for(sub { $nginx->workers() == 1 }), 'by the new worker');
is(call()->{status}, 200, 'which serves');
cmp_ok(settled(), '>', $spent, 'and charges where it did');

# one of another name, whose symbols the linker binds to the first

copy(find_module(), "$nginx->{dir}/other.so") or die "cannot copy: $!\n";
$spent = settled();
$conf =~ s/copy\.so/other.so/;

ok($nginx->reload($conf), 'a reload with a file of another name is served')
    or diag($nginx->log_tail());
ok(wait_for(sub { $nginx->workers() == 1 }), 'by the new worker');
is(call()->{status}, 200, 'which serves');
cmp_ok(settled(), '>', $spent, 'and charges where it did');

balanced('and charges');
$nginx->stop();
done_testing();


sub settled
{
    my $ledger;

    wait_for(sub {
        $ledger = ledger();
        return $ledger && $ledger->{stat}{pending} == 0;
    });

    return spent($ledger);
}


sub call
{
    return post_json('/v1/chat/completions', $chat,
                     headers => { Authorization => 'Bearer k1' });
}
