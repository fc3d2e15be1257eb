#pragma once
#include "manyhands/mpi/point_to_point.hpp"
namespace manyhands::mpi {
class Collectives : public PointToPoint {
 protected:
  using PointToPoint::PointToPoint;
};
}  // namespace manyhands::mpi
