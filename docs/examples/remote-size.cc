/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remote-size.cc -- prints the size of a file, in C++
 *
 * usage: remote-size rdma://HOST:PORT PATH
 *
 *	c++ -o remote-size remote-size.cc $(pkg-config --cflags --libs libpmemlease)
 */
#include <iostream>
#include <memory>

#include <pmemleasefs/client.h>

int main(int argc, char **argv)
{
	if (argc != 3) {
		std::cerr << "usage: remote-size rdma://HOST:PORT PATH\n";
		return 2;
	}
	char reason[256];
	pml_client *opened;
	if (pml_client_connect(argv[1], 0, &opened, reason)) {
		std::cerr << reason << '\n';
		return 1;
	}
	std::unique_ptr<pml_client, decltype(&pml_client_close)> client(opened, pml_client_close);
	pml_client_attr attr;
	if (pml_client_stat(client.get(), argv[2], &attr)) {
		std::cerr << pml_client_reason(client.get()) << '\n';
		return 1;
	}
	std::cout << attr.size_bytes << '\n';
	return 0;
}
