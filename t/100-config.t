#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# The module loads and leaves alone what it is not told to guard.


use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(basename);
use File::Path qw(make_path);
use FindBin;
use IO::Socket::INET;
use Test::More;

my $module;

# before Test::Nginx reads its environment: a server root and a port of its
# own, so that prove -j can run files side by side

BEGIN {
    my $build = $ENV{LLMB_BUILD} || abs_path("$FindBin::Bin/..") . '/build';

    $module = "$build/ngx_http_llm_budget_module.so";

    plan(skip_all => "no $module: run scripts/build") if !-f $module;

    $ENV{TEST_NGINX_BINARY} ||= '/usr/sbin/nginx';
    $ENV{TEST_NGINX_SERVROOT} ||= "$build/servroot/" . basename($0, '.t');
    make_path("$build/servroot");

    $ENV{TEST_NGINX_SERVER_PORT}
        ||= IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1')
                            ->sockport();
}

use Test::Nginx::Socket;


add_block_preprocessor(sub {
    my ($block) = @_;

    $block->set_value(main_config => "load_module $module;\n"
                                     . ($block->main_config // ''));
});

no_long_string();
repeat_each(1);

plan tests => repeat_each() * (blocks() * 3);

run_tests();


__DATA__

=== TEST 1: a location without directives of the module answers
--- config
location = /plain {
    return 200 "plain\n";
}
--- request
GET /plain
--- response_body
plain
--- error_code: 200
--- no_error_log
[alert]
