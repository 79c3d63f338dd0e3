#include <replk/replk.h>

#include <iostream>

int main() { std::cout << replk_version() << '\n'; }
